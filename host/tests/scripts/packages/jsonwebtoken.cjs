const assert = require("node:assert");
const { promisify } = require("node:util");
const jwt = require("jsonwebtoken");
const rsa = require("./rsa.pem");
const rsaPublic = require("./rsa-public.pem");
const p256 = require("./p256.pem");
const p256Public = require("./p256-public.pem");

exports.handler = async () => {
  for (const algorithm of ["HS256", "HS384", "HS512"]) {
    const token = jwt.sign({ role: "admin" }, "secret", { algorithm, expiresIn: "1h", subject: "ada", audience: "audience" });
    const payload = jwt.verify(token, "secret", { algorithms: [algorithm], audience: "audience" });
    assert.deepStrictEqual([payload.role, payload.sub, payload.exp - payload.iat], ["admin", "ada", 3600]);
    assert.throws(() => jwt.verify(token, "other"), { name: "JsonWebTokenError", message: "invalid signature" });
    assert.strictEqual(jwt.decode(token, { complete: true }).header.alg, algorithm);
  }
  for (const [algorithm, secret, open] of [["RS256", rsa, rsaPublic], ["PS256", rsa, rsaPublic], ["ES256", p256, p256Public]]) {
    const token = jwt.sign({ role: "user" }, secret, { algorithm, keyid: "1" });
    assert.strictEqual(jwt.verify(token, open, { algorithms: [algorithm] }).role, "user");
    // The algorithm of the token is not trusted: the public key is no secret of an HMAC.
    assert.throws(() => jwt.verify(token, open, { algorithms: ["HS256"] }), { name: "JsonWebTokenError", message: "invalid algorithm" });
    const changed = token.slice(0, -6) + (token.at(-6) === "A" ? "B" : "A") + token.slice(-5);
    assert.throws(() => jwt.verify(changed, open), { name: "JsonWebTokenError", message: "invalid signature" });
  }
  const expired = jwt.sign({ exp: Math.floor(Date.now() / 1000) - 10 }, "secret");
  assert.throws(() => jwt.verify(expired, "secret"), (error) => {
    assert.deepStrictEqual([error.name, error.message, error.expiredAt instanceof Date], ["TokenExpiredError", "jwt expired", true]);
    return error instanceof jwt.TokenExpiredError;
  });
  // With a callback and with a function that finds the key.
  const token = await promisify(jwt.sign)({ a: 1 }, rsa, { algorithm: "RS256", header: { kid: "1" } });
  const findKey = (header, callback) => setImmediate(callback, null, header.kid === "1" ? rsaPublic : undefined);
  const payload = await new Promise((resolve, reject) => {
    jwt.verify(token, findKey, { algorithms: ["RS256"] }, (error, found) => (error ? reject(error) : resolve(found)));
  });
  assert.strictEqual(payload.a, 1);
  return { statusCode: 200, body: "jsonwebtoken works" };
};
