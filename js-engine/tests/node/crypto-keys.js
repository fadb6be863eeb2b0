import crypto, { createPrivateKey, createPublicKey, createSecretKey, createSign, createVerify, KeyObject } from "node:crypto";

const message = Buffer.from("message");
const { constants } = crypto;
const signature = (name) => Buffer.from(KEYS.signatures[name], "base64");
const pss = (key, saltLength) => ({ key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength });
const raw = (key) => ({ key, dsaEncoding: "ieee-p1363" });

test("signatures that node made are verified, and those of another message are not", () => {
  const cases = [
    ["rs256", "sha256", KEYS.rsa.spki],
    ["rs512", "RSA-SHA512", KEYS.rsa.spki],
    ["rs1", "sha1", KEYS.rsa.pkcs1],
    ["ps256", "sha256", pss(KEYS.rsa.spki, constants.RSA_PSS_SALTLEN_DIGEST)],
    ["ps256", "sha256", pss(KEYS.rsa.spki, 32)],
    ["ps256max", "sha256", pss(KEYS.rsa.spki, constants.RSA_PSS_SALTLEN_AUTO)],
    ["es256", "sha256", KEYS.p256.spki],
    ["es256raw", "sha256", raw(KEYS.p256.spki)],
    ["es384", "sha384", KEYS.p384.spki],
    ["es384raw", "sha384", raw(KEYS.p384.spki)],
    ["es256on384", "sha256", KEYS.p384.spki],
    ["es512on256", "sha512", KEYS.p256.spki],
    ["eddsa", null, KEYS.ed.spki],
  ];
  for (const [name, hash, key] of cases) {
    const seen = (data, bytes) => crypto.verify(hash, data, key, bytes);
    const changed = Buffer.from(signature(name));
    changed[changed.length - 5] ^= 1;
    assert.deepEqual(
      [name, seen(message, signature(name)), seen(Buffer.from("Message"), signature(name)), seen(message, changed), seen(message, Buffer.alloc(0))],
      [name, true, false, false, false],
    );
    if (hash === null) continue;
    assert.equal(createVerify(hash).update("mess").update("age").verify(key, KEYS.signatures[name], "base64"), true);
  }
  assert.equal(crypto.verify("sha256", message, pss(KEYS.rsa.spki, 20), signature("ps256")), false);
  assert.equal(crypto.verify("sha256", message, KEYS.rsa.spki, signature("ps256")), false);
  assert.throws(() => createVerify("nope"), "TypeError", "Invalid digest");
});

test("keys are read as PEM, DER, JWK and KeyObject", () => {
  for (const name of ["rsa", "p256", "p384", "ed"]) {
    const { spki, pkcs8, jwk, privateJwk } = KEYS[name];
    const open = createPublicKey(spki);
    const secret = createPrivateKey(pkcs8);
    assert.deepEqual([open.type, secret.type], ["public", "private"]);
    assert.equal(open.export({ type: "spki", format: "pem" }), spki);
    assert.equal(secret.export({ type: "pkcs8", format: "pem" }).length > 0, true);
    assert.deepEqual(open.export({ format: "jwk" }), jwk);
    assert.deepEqual(secret.export({ format: "jwk" }), privateJwk);
    assert.ok(createPublicKey(secret).equals(open));
    assert.ok(createPublicKey(pkcs8).equals(open));
    assert.ok(createPublicKey({ key: jwk, format: "jwk" }).equals(open));
    assert.ok(createPrivateKey({ key: privateJwk, format: "jwk" }).equals(secret));
    const der = open.export({ type: "spki", format: "der" });
    assert.ok(createPublicKey({ key: der, format: "der", type: "spki" }).equals(open));
    assert.ok(createPublicKey(Buffer.from(spki)).equals(open) && open instanceof KeyObject);
  }
  assert.deepEqual(
    ["rsa", "p256", "p384", "ed"].map((name) => createPublicKey(KEYS[name].spki).asymmetricKeyType),
    ["rsa", "ec", "ec", "ed25519"],
  );
  assert.deepEqual(createPublicKey(KEYS.rsa.spki).asymmetricKeyDetails, { modulusLength: 2048, publicExponent: 65537n });
  assert.equal(createPublicKey(KEYS.p384.spki).asymmetricKeyDetails.namedCurve, "secp384r1");
  assert.ok(createPrivateKey(KEYS.rsa.pkcs1Private).equals(createPrivateKey(KEYS.rsa.pkcs8)));
  assert.ok(createPrivateKey(KEYS.p256.sec1).equals(createPrivateKey(KEYS.p256.pkcs8)));
  assert.ok(createPrivateKey(KEYS.p384.sec1).equals(createPrivateKey(KEYS.p384.pkcs8)));
  const symmetric = createSecretKey("secret", "utf8");
  assert.deepEqual([symmetric.type, symmetric.symmetricKeySize, symmetric.export().toString()], ["secret", 6, "secret"]);
  assert.throws(() => createPublicKey("no key"), "Error");
  assert.throws(() => createPrivateKey(KEYS.rsa.spki), "Error");
  assert.throws(() => createPublicKey(KEYS.rsa.spki.replace("A", "B").replace("M", "N")), "Error");
});

test("what is signed here is verified here, and deterministic signatures are node's", () => {
  assert.equal(crypto.sign("sha256", message, KEYS.rsa.pkcs8).toString("base64"), KEYS.signatures.rs256);
  assert.equal(createSign("RSA-SHA512").update(message).sign(KEYS.rsa.pkcs8, "base64"), KEYS.signatures.rs512);
  assert.equal(crypto.sign(null, message, KEYS.ed.pkcs8).toString("base64"), KEYS.signatures.eddsa);
  for (const [hash, secret, open] of [
    ["sha256", pss(KEYS.rsa.pkcs8, -1), pss(KEYS.rsa.spki, -1)],
    ["sha256", KEYS.p256.pkcs8, KEYS.p256.spki],
    ["sha256", raw(KEYS.p256.sec1), raw(KEYS.p256.spki)],
    ["sha384", KEYS.p384.pkcs8, KEYS.p384.spki],
  ]) {
    assert.equal(crypto.verify(hash, message, open, crypto.sign(hash, message, secret)), true);
  }
  const pair = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
  assert.ok(crypto.verify("sha256", message, pair.publicKey, crypto.sign("sha256", message, pair.privateKey)));
});

test("WebCrypto verifies, signs and hashes", async () => {
  const { subtle } = globalThis.crypto;
  assert.equal(Buffer.from(await subtle.digest("SHA-256", Buffer.from("abc"))).toString("hex"), crypto.createHash("sha256").update("abc").digest("hex"));
  const der = (name) => createPublicKey(KEYS[name].spki).export({ type: "spki", format: "der" });
  const cases = [
    ["rs256", "rsa", { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }, {}],
    ["ps256", "rsa", { name: "RSA-PSS", hash: "SHA-256" }, { saltLength: 32 }],
    ["es256raw", "p256", { name: "ECDSA", namedCurve: "P-256" }, { hash: "SHA-256" }],
    ["es384raw", "p384", { name: "ECDSA", namedCurve: "P-384" }, { hash: { name: "SHA-384" } }],
    ["eddsa", "ed", { name: "Ed25519" }, {}],
  ];
  for (const [name, kind, params, more] of cases) {
    for (const [format, data] of [["spki", der(kind)], ["jwk", KEYS[kind].jwk]]) {
      const key = await subtle.importKey(format, data, params, true, ["verify"]);
      const use = { name: params.name, ...more };
      assert.deepEqual(
        [name, await subtle.verify(use, key, signature(name), message), await subtle.verify(use, key, signature(name), Buffer.from("x"))],
        [name, true, false],
      );
      assert.equal(Buffer.from(await subtle.exportKey("spki", key)).equals(der(kind)), true);
    }
    const secret = await subtle.importKey("jwk", KEYS[kind].privateJwk, params, false, ["sign"]);
    const open = await subtle.importKey("jwk", KEYS[kind].jwk, params, false, ["verify"]);
    const use = { name: params.name, ...more };
    assert.equal(await subtle.verify(use, open, await subtle.sign(use, secret, message), message), true);
    await assert.rejects(subtle.sign(use, open, message), "InvalidAccessError");
    await assert.rejects(subtle.exportKey("jwk", secret), "InvalidAccessError");
  }
  const rsa = await subtle.importKey("jwk", KEYS.rsa.jwk, { name: "RSA-PSS", hash: "SHA-512" }, true, ["verify"]);
  assert.deepEqual([rsa.type, rsa.algorithm.modulusLength, rsa.algorithm.hash.name, [...rsa.algorithm.publicExponent]], ["public", 2048, "SHA-512", [1, 0, 1]]);
  assert.ok(rsa instanceof CryptoKey);
});

test("WebCrypto has HMAC, AES-GCM and keys from passwords", async () => {
  const { subtle } = globalThis.crypto;
  const hmac = await subtle.importKey("raw", Buffer.from("key"), { name: "HMAC", hash: "SHA-256" }, true, ["sign", "verify"]);
  const code = await subtle.sign("HMAC", hmac, message);
  assert.equal(Buffer.from(code).toString("hex"), crypto.createHmac("sha256", "key").update(message).digest("hex"));
  assert.deepEqual([await subtle.verify("HMAC", hmac, code, message), await subtle.verify("HMAC", hmac, code, Buffer.from("x"))], [true, false]);
  assert.deepEqual(await subtle.exportKey("jwk", hmac), { kty: "oct", k: "a2V5", key_ops: ["sign", "verify"], ext: true, alg: "HS256" });
  const aes = await subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  const iv = new Uint8Array(12);
  const sealed = await subtle.encrypt({ name: "AES-GCM", iv }, aes, message);
  assert.equal(sealed.byteLength, message.length + 16);
  assert.equal(Buffer.from(await subtle.decrypt({ name: "AES-GCM", iv }, aes, sealed)).toString(), "message");
  await assert.rejects(subtle.decrypt({ name: "AES-GCM", iv: new Uint8Array(12).fill(1) }, aes, sealed), "OperationError");
  const password = await subtle.importKey("raw", Buffer.from("pw"), "PBKDF2", false, ["deriveBits", "deriveKey"]);
  const params = { name: "PBKDF2", hash: "SHA-256", salt: Buffer.from("salt"), iterations: 10 };
  const bits = await subtle.deriveBits(params, password, 256);
  assert.equal(Buffer.from(bits).toString("hex"), crypto.pbkdf2Sync("pw", "salt", 10, 32, "sha256").toString("hex"));
  const derived = await subtle.deriveKey(params, password, { name: "AES-GCM", length: 128 }, true, ["encrypt"]);
  assert.equal(Buffer.from(await subtle.exportKey("raw", derived)).toString("hex"), Buffer.from(bits).toString("hex").slice(0, 32));
  const pair = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
  assert.deepEqual([pair.publicKey.extractable, pair.privateKey.extractable, pair.privateKey.usages], [true, false, ["sign"]]);
  await assert.rejects(subtle.importKey("raw", Buffer.alloc(5), { name: "AES-GCM" }, true, ["encrypt"]), "DataError");
  await assert.rejects(subtle.digest("MD5", message), "NotSupportedError");
  await assert.rejects(subtle.importKey("raw", Buffer.alloc(16), { name: "HMAC", hash: "SHA-256" }, true, ["encrypt"]), "SyntaxError");
});

// Made for these tests alone, and used nowhere else.
var KEYS = {
  "rsa": {
    "spki": "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwz1VfBAofluw4FgXhDj1\nBVKlUyXVA6sBcgKA+9QzRCTU9MuFpsOr/ujF08hs2x9o9UszbTfb4PNz9sqqfhnD\n4DVIlEkExN+1NGbzCHwiBA/NHSr6iFZoN3JdnFpjTdl3/Y1S1bPSXVNViFDxkDhv\nMMKliiUkLl1W+nPGAb5aaaOyHIPf4eZRBzxu4ZAJclS1CBSIzck2O5NYdSxPRlWR\nGjxUi0k1WJv72QbO2WWBfcEDebBG7HpDsCw8uwWKS4ARrUnmVgZyCw7fPp/dItWt\n58R3HA7VDmZqxXHISuGQTSTVcxiO60kJ3fIXYVivkc79QAn/Kr8me5CtiOK0W7Vn\nXQIDAQAB\n-----END PUBLIC KEY-----\n",
    "pkcs8": "-----BEGIN PRIVATE KEY-----\nMIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQDDPVV8ECh+W7Dg\nWBeEOPUFUqVTJdUDqwFyAoD71DNEJNT0y4Wmw6v+6MXTyGzbH2j1SzNtN9vg83P2\nyqp+GcPgNUiUSQTE37U0ZvMIfCIED80dKvqIVmg3cl2cWmNN2Xf9jVLVs9JdU1WI\nUPGQOG8wwqWKJSQuXVb6c8YBvlppo7Icg9/h5lEHPG7hkAlyVLUIFIjNyTY7k1h1\nLE9GVZEaPFSLSTVYm/vZBs7ZZYF9wQN5sEbsekOwLDy7BYpLgBGtSeZWBnILDt8+\nn90i1a3nxHccDtUOZmrFcchK4ZBNJNVzGI7rSQnd8hdhWK+Rzv1ACf8qvyZ7kK2I\n4rRbtWddAgMBAAECggEAEy1wIZD4v68QyOIxe43/GB6N5lGKz4k5loUc14YSSKxE\ntFlVb61vgWKqvYQsMe3igmdFNII0uXwdNO2jushotbPZXqKf5eXpFHrUS04RWhkv\nPaE3txkKgMyQ2cdrH7EWMmdyVOymSjJ7h7mwfXxKaupQfMK4zH3j1qzbYAp3/3Sm\nO1CmhE3Lskfg/ok7huIRIqG6zd4EQp/C9jyO43BBgelOQAC+CIuYI2kJBEVXClNo\nkNO+FWcmwnGN0jN1oxKhUZbbPWOPwn6PfXEqEUDJ+G6uKeKzC/d8gBY/ezhylePZ\neliuR9xyC6JTvmjmcr24sZYymZyqRuqrXLZ0N2+WZQKBgQDvQKh4e9Q8ohSIqPEk\n8VIhy10A5fxPxDzXPpYp/0IMVj3Xbx8N2Xl3lLmOVEm9lpgIg14IBhF7362o0Hr9\nVaD8E92V8XgIRjUn4AdVMuvquol30vg5Np1SpZSFKChl90rIN2u7+o9U0Rd+/wyY\nQ2LlOhnJSAllNOZ018CI1Oz+qwKBgQDQ5/mWFGpQ5wmwV+qt3+NLECB773+ielPb\nVawLbcfBaZoPpjrrOrOeDUvX2vfsGPJ6qZrxxuNajp5t2C5oVlAq+kQjv3UA8n+3\nAOi86CwP4S1HDS4M7GdZyjDnGkufDD2TTD5xpa/XMxBOZx+OlWqlGTTBJLayqogO\n1VA7T4eSFwKBgQC1PXfh/XwjimyfscsrPxwGubV0bsSZ8IBeVe0PV2zDR7mFL4qI\nxUv8yE9ggH1z/1agbFOZJG+uNR2qmnPw4SMYkjvz0H4rVnQCBvXHFtIceL6WZNzh\nCnxXFVPTIz6nL5QY49LbDc3yZIq2C6OQ3MtX9pF+JvHnFxHVRXN2tEXsDQKBgQCf\nZXC9v6QDSNXOtLY+pwbRnmN6zRnxCi9zuqHEMqZpAD9p02c/VpH4daK597yVa8+Q\nIls0QZH15b4iiAGY4MrYkA5vzETlTSJ/qvTqNqhwEVsvzHGnsLWHAExh+WFb4MYW\n3uUCZ+6MX80AVZTxgTZW9K2Y9X9lQdMApmhKaPtDTwKBgQDiTn5fW3kYA9vDC/+J\nYtrQFvxkrfyRs0EpxyvYx+vePvC/TQABokG82kNPwqRJ3wGO+ykTutJ1PxHMR8ww\n0k9O0OdIJNYSxUoCFnvN0cHxqfDaCYxJOLdaFn7+3NJUak877zciSTxJGry4S+Yp\n2b7DvF5XpmpwPn1oRIjByymXLw==\n-----END PRIVATE KEY-----\n",
    "jwk": {
      "kty": "RSA",
      "n": "wz1VfBAofluw4FgXhDj1BVKlUyXVA6sBcgKA-9QzRCTU9MuFpsOr_ujF08hs2x9o9UszbTfb4PNz9sqqfhnD4DVIlEkExN-1NGbzCHwiBA_NHSr6iFZoN3JdnFpjTdl3_Y1S1bPSXVNViFDxkDhvMMKliiUkLl1W-nPGAb5aaaOyHIPf4eZRBzxu4ZAJclS1CBSIzck2O5NYdSxPRlWRGjxUi0k1WJv72QbO2WWBfcEDebBG7HpDsCw8uwWKS4ARrUnmVgZyCw7fPp_dItWt58R3HA7VDmZqxXHISuGQTSTVcxiO60kJ3fIXYVivkc79QAn_Kr8me5CtiOK0W7VnXQ",
      "e": "AQAB"
    },
    "privateJwk": {
      "kty": "RSA",
      "n": "wz1VfBAofluw4FgXhDj1BVKlUyXVA6sBcgKA-9QzRCTU9MuFpsOr_ujF08hs2x9o9UszbTfb4PNz9sqqfhnD4DVIlEkExN-1NGbzCHwiBA_NHSr6iFZoN3JdnFpjTdl3_Y1S1bPSXVNViFDxkDhvMMKliiUkLl1W-nPGAb5aaaOyHIPf4eZRBzxu4ZAJclS1CBSIzck2O5NYdSxPRlWRGjxUi0k1WJv72QbO2WWBfcEDebBG7HpDsCw8uwWKS4ARrUnmVgZyCw7fPp_dItWt58R3HA7VDmZqxXHISuGQTSTVcxiO60kJ3fIXYVivkc79QAn_Kr8me5CtiOK0W7VnXQ",
      "e": "AQAB",
      "d": "Ey1wIZD4v68QyOIxe43_GB6N5lGKz4k5loUc14YSSKxEtFlVb61vgWKqvYQsMe3igmdFNII0uXwdNO2jushotbPZXqKf5eXpFHrUS04RWhkvPaE3txkKgMyQ2cdrH7EWMmdyVOymSjJ7h7mwfXxKaupQfMK4zH3j1qzbYAp3_3SmO1CmhE3Lskfg_ok7huIRIqG6zd4EQp_C9jyO43BBgelOQAC-CIuYI2kJBEVXClNokNO-FWcmwnGN0jN1oxKhUZbbPWOPwn6PfXEqEUDJ-G6uKeKzC_d8gBY_ezhylePZeliuR9xyC6JTvmjmcr24sZYymZyqRuqrXLZ0N2-WZQ",
      "p": "70CoeHvUPKIUiKjxJPFSIctdAOX8T8Q81z6WKf9CDFY9128fDdl5d5S5jlRJvZaYCINeCAYRe9-tqNB6_VWg_BPdlfF4CEY1J-AHVTLr6rqJd9L4OTadUqWUhSgoZfdKyDdru_qPVNEXfv8MmENi5ToZyUgJZTTmdNfAiNTs_qs",
      "q": "0Of5lhRqUOcJsFfqrd_jSxAge-9_onpT21WsC23HwWmaD6Y66zqzng1L19r37Bjyeqma8cbjWo6ebdguaFZQKvpEI791APJ_twDovOgsD-EtRw0uDOxnWcow5xpLnww9k0w-caWv1zMQTmcfjpVqpRk0wSS2sqqIDtVQO0-Hkhc",
      "dp": "tT134f18I4psn7HLKz8cBrm1dG7EmfCAXlXtD1dsw0e5hS-KiMVL_MhPYIB9c_9WoGxTmSRvrjUdqppz8OEjGJI789B-K1Z0Agb1xxbSHHi-lmTc4Qp8VxVT0yM-py-UGOPS2w3N8mSKtgujkNzLV_aRfibx5xcR1UVzdrRF7A0",
      "dq": "n2Vwvb-kA0jVzrS2PqcG0Z5jes0Z8Qovc7qhxDKmaQA_adNnP1aR-HWiufe8lWvPkCJbNEGR9eW-IogBmODK2JAOb8xE5U0if6r06jaocBFbL8xxp7C1hwBMYflhW-DGFt7lAmfujF_NAFWU8YE2VvStmPV_ZUHTAKZoSmj7Q08",
      "qi": "4k5-X1t5GAPbwwv_iWLa0Bb8ZK38kbNBKccr2Mfr3j7wv00AAaJBvNpDT8KkSd8BjvspE7rSdT8RzEfMMNJPTtDnSCTWEsVKAhZ7zdHB8anw2gmMSTi3WhZ-_tzSVGpPO-83Ikk8SRq8uEvmKdm-w7xeV6ZqcD59aESIwcsply8"
    },
    "pkcs1": "-----BEGIN RSA PUBLIC KEY-----\nMIIBCgKCAQEAwz1VfBAofluw4FgXhDj1BVKlUyXVA6sBcgKA+9QzRCTU9MuFpsOr\n/ujF08hs2x9o9UszbTfb4PNz9sqqfhnD4DVIlEkExN+1NGbzCHwiBA/NHSr6iFZo\nN3JdnFpjTdl3/Y1S1bPSXVNViFDxkDhvMMKliiUkLl1W+nPGAb5aaaOyHIPf4eZR\nBzxu4ZAJclS1CBSIzck2O5NYdSxPRlWRGjxUi0k1WJv72QbO2WWBfcEDebBG7HpD\nsCw8uwWKS4ARrUnmVgZyCw7fPp/dItWt58R3HA7VDmZqxXHISuGQTSTVcxiO60kJ\n3fIXYVivkc79QAn/Kr8me5CtiOK0W7VnXQIDAQAB\n-----END RSA PUBLIC KEY-----\n",
    "pkcs1Private": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpQIBAAKCAQEAwz1VfBAofluw4FgXhDj1BVKlUyXVA6sBcgKA+9QzRCTU9MuF\npsOr/ujF08hs2x9o9UszbTfb4PNz9sqqfhnD4DVIlEkExN+1NGbzCHwiBA/NHSr6\niFZoN3JdnFpjTdl3/Y1S1bPSXVNViFDxkDhvMMKliiUkLl1W+nPGAb5aaaOyHIPf\n4eZRBzxu4ZAJclS1CBSIzck2O5NYdSxPRlWRGjxUi0k1WJv72QbO2WWBfcEDebBG\n7HpDsCw8uwWKS4ARrUnmVgZyCw7fPp/dItWt58R3HA7VDmZqxXHISuGQTSTVcxiO\n60kJ3fIXYVivkc79QAn/Kr8me5CtiOK0W7VnXQIDAQABAoIBABMtcCGQ+L+vEMji\nMXuN/xgejeZRis+JOZaFHNeGEkisRLRZVW+tb4Fiqr2ELDHt4oJnRTSCNLl8HTTt\no7rIaLWz2V6in+Xl6RR61EtOEVoZLz2hN7cZCoDMkNnHax+xFjJnclTspkoye4e5\nsH18SmrqUHzCuMx949as22AKd/90pjtQpoRNy7JH4P6JO4biESKhus3eBEKfwvY8\njuNwQYHpTkAAvgiLmCNpCQRFVwpTaJDTvhVnJsJxjdIzdaMSoVGW2z1jj8J+j31x\nKhFAyfhuriniswv3fIAWP3s4cpXj2XpYrkfccguiU75o5nK9uLGWMpmcqkbqq1y2\ndDdvlmUCgYEA70CoeHvUPKIUiKjxJPFSIctdAOX8T8Q81z6WKf9CDFY9128fDdl5\nd5S5jlRJvZaYCINeCAYRe9+tqNB6/VWg/BPdlfF4CEY1J+AHVTLr6rqJd9L4OTad\nUqWUhSgoZfdKyDdru/qPVNEXfv8MmENi5ToZyUgJZTTmdNfAiNTs/qsCgYEA0Of5\nlhRqUOcJsFfqrd/jSxAge+9/onpT21WsC23HwWmaD6Y66zqzng1L19r37Bjyeqma\n8cbjWo6ebdguaFZQKvpEI791APJ/twDovOgsD+EtRw0uDOxnWcow5xpLnww9k0w+\ncaWv1zMQTmcfjpVqpRk0wSS2sqqIDtVQO0+HkhcCgYEAtT134f18I4psn7HLKz8c\nBrm1dG7EmfCAXlXtD1dsw0e5hS+KiMVL/MhPYIB9c/9WoGxTmSRvrjUdqppz8OEj\nGJI789B+K1Z0Agb1xxbSHHi+lmTc4Qp8VxVT0yM+py+UGOPS2w3N8mSKtgujkNzL\nV/aRfibx5xcR1UVzdrRF7A0CgYEAn2Vwvb+kA0jVzrS2PqcG0Z5jes0Z8Qovc7qh\nxDKmaQA/adNnP1aR+HWiufe8lWvPkCJbNEGR9eW+IogBmODK2JAOb8xE5U0if6r0\n6jaocBFbL8xxp7C1hwBMYflhW+DGFt7lAmfujF/NAFWU8YE2VvStmPV/ZUHTAKZo\nSmj7Q08CgYEA4k5+X1t5GAPbwwv/iWLa0Bb8ZK38kbNBKccr2Mfr3j7wv00AAaJB\nvNpDT8KkSd8BjvspE7rSdT8RzEfMMNJPTtDnSCTWEsVKAhZ7zdHB8anw2gmMSTi3\nWhZ+/tzSVGpPO+83Ikk8SRq8uEvmKdm+w7xeV6ZqcD59aESIwcsply8=\n-----END RSA PRIVATE KEY-----\n"
  },
  "p256": {
    "spki": "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAECbDB+6qmPEFxI0tlKzPm3CHA4+Rr\ntxKB5H6EeIVIbjI2bbaQK1gNmka/nUH1O7j62hz/2myR4E/Jg4GN3sJA4w==\n-----END PUBLIC KEY-----\n",
    "pkcs8": "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgR7LOk0i/Goibniaz\nZ4zP5oS1Jm+XHzHpgseHJToSsnKhRANCAAQJsMH7qqY8QXEjS2UrM+bcIcDj5Gu3\nEoHkfoR4hUhuMjZttpArWA2aRr+dQfU7uPraHP/abJHgT8mDgY3ewkDj\n-----END PRIVATE KEY-----\n",
    "jwk": {
      "kty": "EC",
      "x": "CbDB-6qmPEFxI0tlKzPm3CHA4-RrtxKB5H6EeIVIbjI",
      "y": "Nm22kCtYDZpGv51B9Tu4-toc_9pskeBPyYOBjd7CQOM",
      "crv": "P-256"
    },
    "privateJwk": {
      "kty": "EC",
      "x": "CbDB-6qmPEFxI0tlKzPm3CHA4-RrtxKB5H6EeIVIbjI",
      "y": "Nm22kCtYDZpGv51B9Tu4-toc_9pskeBPyYOBjd7CQOM",
      "crv": "P-256",
      "d": "R7LOk0i_GoibniazZ4zP5oS1Jm-XHzHpgseHJToSsnI"
    },
    "sec1": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIEeyzpNIvxqIm54ms2eMz+aEtSZvlx8x6YLHhyU6ErJyoAoGCCqGSM49\nAwEHoUQDQgAECbDB+6qmPEFxI0tlKzPm3CHA4+RrtxKB5H6EeIVIbjI2bbaQK1gN\nmka/nUH1O7j62hz/2myR4E/Jg4GN3sJA4w==\n-----END EC PRIVATE KEY-----\n"
  },
  "p384": {
    "spki": "-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEKdwYhD6SmHlwD7nMZQc/+NjkoifrfNLo\nBpXqEVskQZBvq0uwR8aaOxNzBkg5/ygGPPEzXQgWICGPeADPbOKypm+RGb4fIPsT\nRqrHcB0ROzcNrVEoFBKPtsEgNzn45SMV\n-----END PUBLIC KEY-----\n",
    "pkcs8": "-----BEGIN PRIVATE KEY-----\nMIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDC8wMMUUU+DvP24q6tL\nXgKHycGFrJue1gajJP9CIfa9F0uWshYcaC6+zcRwpnxSjsShZANiAAQp3BiEPpKY\neXAPucxlBz/42OSiJ+t80ugGleoRWyRBkG+rS7BHxpo7E3MGSDn/KAY88TNdCBYg\nIY94AM9s4rKmb5EZvh8g+xNGqsdwHRE7Nw2tUSgUEo+2wSA3OfjlIxU=\n-----END PRIVATE KEY-----\n",
    "jwk": {
      "kty": "EC",
      "x": "KdwYhD6SmHlwD7nMZQc_-NjkoifrfNLoBpXqEVskQZBvq0uwR8aaOxNzBkg5_ygG",
      "y": "PPEzXQgWICGPeADPbOKypm-RGb4fIPsTRqrHcB0ROzcNrVEoFBKPtsEgNzn45SMV",
      "crv": "P-384"
    },
    "privateJwk": {
      "kty": "EC",
      "x": "KdwYhD6SmHlwD7nMZQc_-NjkoifrfNLoBpXqEVskQZBvq0uwR8aaOxNzBkg5_ygG",
      "y": "PPEzXQgWICGPeADPbOKypm-RGb4fIPsTRqrHcB0ROzcNrVEoFBKPtsEgNzn45SMV",
      "crv": "P-384",
      "d": "vMDDFFFPg7z9uKurS14Ch8nBhaybntYGoyT_QiH2vRdLlrIWHGguvs3EcKZ8Uo7E"
    },
    "sec1": "-----BEGIN EC PRIVATE KEY-----\nMIGkAgEBBDC8wMMUUU+DvP24q6tLXgKHycGFrJue1gajJP9CIfa9F0uWshYcaC6+\nzcRwpnxSjsSgBwYFK4EEACKhZANiAAQp3BiEPpKYeXAPucxlBz/42OSiJ+t80ugG\nleoRWyRBkG+rS7BHxpo7E3MGSDn/KAY88TNdCBYgIY94AM9s4rKmb5EZvh8g+xNG\nqsdwHRE7Nw2tUSgUEo+2wSA3OfjlIxU=\n-----END EC PRIVATE KEY-----\n"
  },
  "ed": {
    "spki": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAebmfVdv/ZRFgNcfPqk5sR8wePNIilL/GAyWEKz+6lFA=\n-----END PUBLIC KEY-----\n",
    "pkcs8": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIPJ9yl/rkkwjlUK5yYoFdp6ck1TbOi/gL1Jm6BnAY1fb\n-----END PRIVATE KEY-----\n",
    "jwk": {
      "crv": "Ed25519",
      "x": "ebmfVdv_ZRFgNcfPqk5sR8wePNIilL_GAyWEKz-6lFA",
      "kty": "OKP"
    },
    "privateJwk": {
      "crv": "Ed25519",
      "d": "8n3KX-uSTCOVQrnJigV2npyTVNs6L-AvUmboGcBjV9s",
      "x": "ebmfVdv_ZRFgNcfPqk5sR8wePNIilL_GAyWEKz-6lFA",
      "kty": "OKP"
    }
  },
  "signatures": {
    "rs256": "TxmywAGgj+voOt68TRqVERkSn8ocyOZW9e3WtuqFWMOQKjJq0dgcGuDQAqsKl/alKx/LppV+7miRrZnyWuzXRlZ1cGRVOMLg3PLnJ7baYuwPrODdqxdRbddXrUmgQ94QOOHib2/Uucf2Z+ikjrL39tlbLYnB122QniIF2OTP/ThCX1Mb4NrabPFUOr5PZmzVPNJ0SmPr4TruQNGQE1s6gj73mRX0Of/0d6mZiZofTCWm8dk4b+PvEua4QzpTzltTiFz9L6E52ASqy0XBrsGo/GqKGfkM405Ko9lQr+Dt/n8VhPe9YHH/iiTT1gtQgzuNpjXNMsEF5sMSWqgVe/Mj9w==",
    "rs512": "BHXMlMWEeTqvuN/KOMTVrQ6HYixTk0G3c/dLXlAkQPBqOFrb0Dy9hhwrqQ88bYutzd/wYC/DBB0sWANcFQBjTEhWIS+4sPEuQ9t0X7ir3sDB0mPqXk7GH7jqb0hlpbX/tbcKdTN1ebVePbQrxHAJwz+ozKbeOev0V1NqBLlk4mJQQAa6OTEgNW2d+XZ3drFTMrNfEkWMquAbpKrSmER23DocmdZdNhW1l0vAp0p2hnICbZkHigeCva6or05qLBzaQwnKO82kcqhIWCnTbCizfGMhL1bcyiZVs0kFNXWgTYMuRqtNA0RmPHcNOMWYNJrbek3t24KEBXeIcavxF/KCHA==",
    "rs1": "lUnNgHozfnhXhYmw5sC8Dh+wnA5lT4LTSQ/kwmqLD6kn57pnMREtlUXkw2oVuSHrlbzWSsNGJNneg8lyoffpKGl8TWr/mkLSnptQyp0uTaQW5uFMZmrgQbEob2UxoEKHKP4oxurVarjdlrnV0WKYb/YAUVnzJNrwAGXCI+PobUYDtHl0LwZrJ/JC3ovDdIBwyfBrJd+u2eRx0cJyqA+hrUpT6cS1NsazhV1+Csh1uahHFSDVbIOLyTvK65SLyoeGoViS3eUewRhWgkSpaoALZXG1AXB1OKtRB0dd2cvyOZCYlP+6ywOuiAYpacJTN/l6wOTM2vDl8vOzx5onDNI5FQ==",
    "ps256": "iIe3eCxMNirm3hBPTOcKX/N2Z/3LGUQTf+LrzW0IY114x7D0ZpdV5gdkdKw1qZzLvL73z8SgKSsX2OK2BQauKUD5D+1EtT4u7RzWE95ZLNnDeq/jdhSUqbrN38EOlWh3ST2ShtgMW2SrtZWsqhskkhejKngfJ1prjgA92FLU2+sd6SEm+VkNOLfljml55Z5VLuEoyf852VwRv5nL3Wi0mI+2z9PunJTBrXejvKFDwYqcHMkaMuTdyvbMzDtABGfuT9Cqt9J6q+0ZFIgetPZxMp3f8iMMzYiEw97HxeqaX7XQEbjR+biJtMEekkC+Nh2m5I/21vdtwff9NSSPDDoNkQ==",
    "ps256max": "cV4RewsvHD63HfeaycwJ5EjnQr46v33FEG31WLmG62uCD+YW7reePYWBQEnMvO4zmNEaCYA7N/0IWrq8p1k1imoduzd5ctRUdHUTOwaVG/Q+a3Sqj7JhZ0o87Zn0XEotu1wXteyB8ReQeX5ox+QFIkTBWXsJqzMC46DbOktSjzGstJrObt10A4D4yi92gnnxJjlJk5GYfKGo0WstE3eLuzlUaQfEaNP/oBKZ8qoZnV8cKqie/wiFngZDPaZLRUBGIAFKzDHti50o4OWMbq+bdtyl47BQqbLCSGQ4t8mx/56cYvko5vmfn/F8/bZuCU4ViCV1Z5BMLEuItsolfx9G7A==",
    "es256": "MEUCIB7Wka8UEpvhhq+fEE7exujoRu8uj3bp9gv+scT3e0uDAiEAwIXNaXL+S6pbBWcY+I4GtoqKdaiShN2g1HuXBo6wUWE=",
    "es256raw": "+SSa1xrZVhGR6uzUhcjahyBVpTzBtMJ+etcNneGpbA6ElUeXvtCLWxBmmr0IiawKALgptKEjqIpH1H73MtzlRA==",
    "es384": "MGQCMAmaxJ4+hZxXX8Afb0RRXivc4R6W3Z137ZV6fzfJFhsYAyIDVD6GQCSseyUcn+sMzwIwAnsDDaBLKpP4oj2FiPlycnpcsjVNK4kWh06ecU6trJ2lYQk2Aft/cLljo0bcHJ4b",
    "es384raw": "CC84L6Z7mIYY33k4Aw6T43Sk1fW2EcIDrqhL7iLcGXR+aioK/lra0WroyLNnRqopa46R6L/erQvhFrTB88VNkGtYvBvBy51+8OU3bB82vQ78TSHMZ60nGGUW7p9eSNaH",
    "es256on384": "MGYCMQD95TkZ1RZzYeTAsx1lFuQdR+c25jRS9iBNxfqVIqlSn3O12Os5ICBknJAFEz5OlfkCMQD+FL/7h3ksoTU0wnvWdg6F9qkjsl8JlNUhh8faeOByNTx9sOqgJFyBYpqxUxYOOnA=",
    "es512on256": "MEQCIDO/piBpAJQ3cZfKJB6Ph4YST8vsIe51fw68l/OUS5bzAiBwpWuQWwAOJw2DhfFNhyXiASKUVovpaUPbenL7Ahtztw==",
    "eddsa": "6twOiAuQXZPaSziAy89vb1GZfyEh0rK9UcmFnvqg4CBB3n5jjhqmWxyCZPCCGFwXENQ1iHSXOVltvUf3elkoCw=="
  }
};
