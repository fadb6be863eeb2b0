// The module `node:crypto`.
import { unavailable, missing } from "../errors.js";
import { createCipheriv, createDecipheriv, getCiphers } from "./cipher.js";
import { generateKeyPair, generateKeyPairSync, generateKeySync } from "./generate.js";
import * as hashes from "./hash.js";
import { createPrivateKey, createPublicKey, createSecretKey, KeyObject } from "./keys.js";
import { getRandomValues, randomBytes, randomFill, randomFillSync, randomInt, randomUUID } from "./random.js";
import { constants, createSign, createVerify, Sign, sign, Verify, verify } from "./sign.js";
import { makeCryptoKey, webcrypto } from "./webcrypto.js";

KeyObject.prototype.toCryptoKey = function (algorithm, extractable, usages) {
  const params = typeof algorithm === "string" ? { name: algorithm } : algorithm;
  return makeCryptoKey(params, this, extractable, usages);
};

const refused = {};
for (const name of ["publicEncrypt", "privateDecrypt", "privateEncrypt", "publicDecrypt"]) {
  refused[name] = missing(`crypto.${name}`, "RSA encryption is not in the engine");
}
for (const name of ["createDiffieHellman", "createECDH", "diffieHellman", "getDiffieHellman", "generatePrime", "checkPrime"]) {
  refused[name] = missing(`crypto.${name}`);
}
for (const name of ["createCipher", "createDecipher"]) refused[name] = missing(`crypto.${name}`, "use createCipheriv");

export const crypto = {
  ...refused,
  Hash: hashes.Hash,
  Hmac: hashes.Hmac,
  KeyObject,
  Sign,
  Verify,
  constants,
  createCipheriv,
  createDecipheriv,
  createHash: hashes.createHash,
  createHmac: hashes.createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  createSign,
  createVerify,
  generateKey(type, options, callback) {
    process.nextTick(callback, null, generateKeySync(type, options));
  },
  generateKeyPair,
  generateKeyPairSync,
  generateKeySync,
  getCiphers,
  getCurves: () => ["prime256v1", "secp384r1"],
  getFips: () => 0,
  getHashes: hashes.getHashes,
  getRandomValues,
  hash: hashes.hash,
  hkdf: hashes.hkdf,
  hkdfSync: hashes.hkdfSync,
  pbkdf2: hashes.pbkdf2,
  pbkdf2Sync: hashes.pbkdf2Sync,
  pseudoRandomBytes: randomBytes,
  randomBytes,
  randomFill,
  randomFillSync,
  randomInt,
  randomUUID,
  scrypt: hashes.scrypt,
  scryptSync: hashes.scryptSync,
  secureHeapUsed: () => ({}),
  sign,
  subtle: webcrypto.subtle,
  timingSafeEqual: hashes.timingSafeEqual,
  verify,
  webcrypto,
  get X509Certificate() {
    throw unavailable("crypto.X509Certificate", "give the public key as PEM PUBLIC KEY");
  },
};
Object.defineProperty(crypto, "X509Certificate", { enumerable: false });
