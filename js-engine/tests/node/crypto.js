import crypto, { createHash, createHmac, randomBytes, randomFillSync, randomInt, randomUUID, timingSafeEqual } from "node:crypto";
import bare from "crypto";
import { Readable } from "node:stream";

/** What a function throws at the top level of this file, which runs when it is loaded. */
function refusal(run) {
  try {
    return `no error, but ${run()}`;
  } catch (error) {
    return error.message;
  }
}
const atLoad = {
  digest: createHash("sha256").update("abc").digest("hex"),
  refusals: [
    refusal(() => randomUUID()),
    refusal(() => randomBytes(1)),
    refusal(() => randomInt(5)),
    refusal(() => globalThis.crypto.getRandomValues(new Uint8Array(1))),
    refusal(() => globalThis.crypto.randomUUID()),
  ],
};

test("while a file is loaded hashes work, and secure randomness is refused with what to do", () => {
  assert.equal(atLoad.digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  for (const message of atLoad.refusals) {
    assert.ok(message.startsWith("crypto.") && message.includes("move the call into the handler"), message);
  }
});

test("hashes are node's", async () => {
  assert.equal(bare, crypto);
  const expected = {
    md5: "900150983cd24fb0d6963f7d28e17f72",
    sha1: "a9993e364706816aba3e25717850c26c9cd0d89d",
    sha224: "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
    sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "RSA-SHA256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    SHA384: "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    sha512: "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
  };
  for (const [name, hex] of Object.entries(expected)) {
    assert.equal(createHash(name).update("a").update(Buffer.from("b")).update("Yw", "base64").digest("hex"), hex);
  }
  assert.equal(createHash("md5").digest("base64"), "1B2M2Y8AsgTpgAmY7PhCfg==");
  assert.throws(() => createHash("whirlpool9"), "Error", "Digest method not supported");
  const hash = createHash("sha1").update("a");
  const copy = hash.copy();
  assert.equal(hash.digest("hex"), copy.digest("hex"));
  assert.throws(() => hash.update("b"), "Error", "Digest already called");
  assert.throws(() => createHash("sha1").update(5), "TypeError", '"data" argument');
  const piped = await new Promise((resolve) => {
    const stream = createHash("sha256");
    stream.setEncoding("hex");
    stream.on("data", resolve);
    Readable.from([Buffer.from("abc")]).on("data", (chunk) => stream.write(chunk)).on("end", () => stream.end());
  });
  assert.equal(piped, expected.sha256);
});

test("HMACs are node's, with strings, Buffers and KeyObjects as keys", () => {
  const hex = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
  const message = "The quick brown fox jumps over the lazy dog";
  for (const key of ["key", Buffer.from("key"), crypto.createSecretKey(Buffer.from("key"))]) {
    assert.equal(createHmac("sha256", key).update(message).digest("hex"), hex);
  }
  assert.equal(createHmac("md5", "").digest("hex"), "74e6f7298a9c2d168935f58c001bad88");
  assert.throws(() => createHmac("nope", ""), "TypeError", "Invalid digest: nope");
});

test("keys are derived as in node", async () => {
  assert.equal(crypto.pbkdf2Sync("password", "salt", 2, 20, "sha1").toString("hex"), "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
  const derived = await new Promise((resolve) => crypto.pbkdf2("p", "s", 3, 16, "sha512", (error, key) => resolve(key)));
  assert.equal(derived.toString("hex"), "f03104b7e5cd219659352c9311245f41");
});

test("scrypt and HKDF have the values of their RFCs", async () => {
  assert.equal(
    crypto.scryptSync("password", "NaCl", 64, { N: 1024, r: 8, p: 16 }).toString("hex"),
    "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
  );
  assert.throws(() => crypto.scryptSync("p", "s", 32, { N: 2 ** 20 }), "RangeError", "memory limit");
  const okm = crypto.hkdfSync("sha256", Buffer.alloc(22, 0x0b), Buffer.from("000102030405060708090a0b0c", "hex"), Buffer.from("f0f1f2f3f4f5f6f7f8f9", "hex"), 42);
  assert.equal(Buffer.from(okm).toString("hex"), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  const later = await new Promise((resolve, reject) =>
    crypto.scrypt("a", "b", 8, { N: 16 }, (error, key) => (error ? reject(error) : resolve(key))),
  );
  assert.equal(later.length, 8);
});

test("randomness differs and has the sizes that were asked for", async () => {
  assert.ok(!randomBytes(16).equals(randomBytes(16)));
  assert.equal(randomBytes(100000).length, 100000);
  assert.equal(randomBytes(0).length, 0);
  assert.throws(() => randomBytes(-1), "RangeError", "out of range");
  assert.ok(Buffer.isBuffer(await new Promise((resolve) => randomBytes(3, (error, bytes) => resolve(bytes)))));
  assert.ok(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(randomUUID()));
  assert.ok(randomUUID() !== globalThis.crypto.randomUUID());
  const numbers = Array.from({ length: 200 }, () => randomInt(3, 6));
  assert.deepEqual([...new Set(numbers)].sort(), [3, 4, 5]);
  assert.throws(() => randomInt(5, 5), "RangeError");
  const filled = randomFillSync(Buffer.alloc(32), 16);
  assert.ok(filled.subarray(0, 16).equals(Buffer.alloc(16)) && !filled.subarray(16).equals(Buffer.alloc(16)));
  const values = globalThis.crypto.getRandomValues(new Uint32Array(8));
  assert.ok(new Set(values).size > 4);
  assert.throws(() => globalThis.crypto.getRandomValues(new Uint8Array(65537)), "QuotaExceededError");
  assert.equal(globalThis.crypto.getRandomValues(new Uint8Array(65536)).length, 65536);
});

test("timingSafeEqual compares, and refuses other lengths", () => {
  assert.equal(timingSafeEqual(Buffer.from("abc"), Buffer.from("abc")), true);
  assert.equal(timingSafeEqual(Buffer.from("abc"), Buffer.from("abd")), false);
  assert.throws(() => timingSafeEqual(Buffer.from("a"), Buffer.from("ab")), "RangeError", "same byte length");
});

test("AES-GCM encrypts as in node, and a changed tag is refused", () => {
  const key = Buffer.alloc(32, 1);
  const iv = Buffer.alloc(12, 2);
  const cipher = crypto.createCipheriv("aes-256-gcm", key, iv);
  cipher.setAAD(Buffer.from("extra"));
  const sealed = cipher.update("secret", "utf8", "hex") + cipher.final("hex");
  assert.equal(`${sealed} ${cipher.getAuthTag().toString("hex")}`, "74b3aa3b2f23 7f526abc6ba3c639dab56c8aeaa4fdf9");
  const open = (tag) => {
    const decipher = crypto.createDecipheriv("aes-256-gcm", key, iv);
    decipher.setAAD(Buffer.from("extra")).setAuthTag(tag);
    return decipher.update(sealed, "hex", "utf8") + decipher.final("utf8");
  };
  assert.equal(open(cipher.getAuthTag()), "secret");
  const changed = cipher.getAuthTag();
  changed[0] ^= 1;
  assert.throws(() => open(changed), "Error", "unable to authenticate");
});
