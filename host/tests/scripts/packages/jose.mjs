import assert from "node:assert";
import { createLocalJWKSet, createRemoteJWKSet, decodeJwt, errors, exportJWK, generateKeyPair, importJWK, importPKCS8, importSPKI, jwtVerify, SignJWT } from "jose";
import ed25519 from "./ed25519.pem";
import ed25519Public from "./ed25519-public.pem";
import p256 from "./p256.pem";
import p256Public from "./p256-public.pem";
import rsa from "./rsa.pem";
import rsaPublic from "./rsa-public.pem";

const KEYS = { RS256: [rsa, rsaPublic], PS256: [rsa, rsaPublic], ES256: [p256, p256Public], EdDSA: [ed25519, ed25519Public] };

function sign(alg, key, expires = "2h") {
  const token = new SignJWT({ "urn:example:claim": true }).setProtectedHeader({ alg, kid: alg }).setSubject("ada");
  return token.setIssuedAt().setIssuer("issuer").setAudience("audience").setExpirationTime(expires).sign(key);
}

const expected = { issuer: "issuer", audience: "audience" };

async function pairs() {
  for (const [alg, [privatePem, publicPem]] of Object.entries(KEYS)) {
    const token = await sign(alg, await importPKCS8(privatePem, alg));
    const key = await importSPKI(publicPem, alg);
    const { payload, protectedHeader } = await jwtVerify(token, key, expected);
    assert.deepStrictEqual([payload.sub, payload["urn:example:claim"], protectedHeader.alg], ["ada", true, alg]);
    const [head, , signature] = token.split(".");
    const changed = `${head}.${Buffer.from('{"sub":"eve"}').toString("base64url")}.${signature}`;
    await assert.rejects(jwtVerify(changed, key), errors.JWSSignatureVerificationFailed);
    await assert.rejects(jwtVerify(token, key, { ...expected, audience: "other" }), (error) => {
      assert.strictEqual(error.code, "ERR_JWT_CLAIM_VALIDATION_FAILED");
      assert.strictEqual(error.claim, "aud");
      return error instanceof errors.JWTClaimValidationFailed;
    });
  }
}

async function secret() {
  const key = new TextEncoder().encode("cc7e0d44fd473002f1c42167459001140ec6389b7353f8088f4d9a95f2f596f2");
  for (const alg of ["HS256", "HS384", "HS512"]) {
    const token = await sign(alg, key);
    assert.strictEqual((await jwtVerify(token, key, expected)).payload.sub, "ada");
    assert.strictEqual(decodeJwt(token).iss, "issuer");
    await assert.rejects(jwtVerify(token, new Uint8Array(64)), errors.JWSSignatureVerificationFailed);
  }
  await assert.rejects(jwtVerify(await sign("HS256", key, "-1s"), key), (error) => {
    assert.deepStrictEqual([error.code, error.message], ["ERR_JWT_EXPIRED", '"exp" claim timestamp check failed']);
    return error instanceof errors.JWTExpired;
  });
}

async function madeKeys() {
  for (const alg of ["ES256", "ES384", "EdDSA"]) {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
    const jwk = await exportJWK(publicKey);
    const token = await sign(alg, privateKey);
    assert.strictEqual((await jwtVerify(token, await importJWK(jwk, alg))).payload.sub, "ada");
    const set = createLocalJWKSet({ keys: [{ ...jwk, kid: "another" }, { ...jwk, kid: alg, alg }] });
    assert.strictEqual((await jwtVerify(token, set)).payload.sub, "ada");
  }
}

/** The keys of an identity provider, which the handler fetches. */
async function remoteKeys() {
  const set = createRemoteJWKSet(new URL("/jwks", process.env.SERVER));
  const jwk = await exportJWK(await importSPKI(rsaPublic, "RS256"));
  const published = await (await fetch(new URL("/jwks", process.env.SERVER))).json();
  assert.deepStrictEqual(published.keys[0].n, jwk.n);
  const token = await sign("RS256", await importPKCS8(rsa, "RS256"));
  assert.strictEqual((await jwtVerify(token, set, expected)).payload.sub, "ada");
  const unknown = await new SignJWT({}).setProtectedHeader({ alg: "RS256", kid: "unknown" }).sign(await importPKCS8(rsa, "RS256"));
  await assert.rejects(jwtVerify(unknown, set), errors.JWKSNoMatchingKey);
}

export async function handler() {
  await pairs();
  await secret();
  await madeKeys();
  await remoteKeys();
  return { statusCode: 200, body: "jose works" };
}
