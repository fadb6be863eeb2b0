// WebCrypto: `crypto`, `SubtleCrypto` and `CryptoKey`.
import { native } from "../../native.js";
import { decode, encode } from "../buffer.js";
import { generatePair } from "./generate.js";
import { hkdfSync } from "./hash.js";
import { fromJwk, handleOf, makeKey, toJwk } from "./keys.js";
import { getRandomValues, randomBytes, randomUUID } from "./random.js";

const HASHES = { "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512" };
const HASH_BITS = { sha1: 512, sha256: 512, sha384: 1024, sha512: 1024 };
const SECRET = ["HMAC", "AES-GCM", "PBKDF2", "HKDF"];
const RSA = ["RSASSA-PKCS1-v1_5", "RSA-PSS"];
const NAMES = [...SECRET, ...RSA, "ECDSA", "Ed25519"];
const BY_LOWER_NAME = new Map([...NAMES, ...Object.keys(HASHES)].map((name) => [name.toLowerCase(), name]));

function fail(name, message) {
  return new DOMException(message, name);
}

/** A BufferSource as Uint8Array. */
function bytesOf(data, what) {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (Object.prototype.toString.call(data) === "[object ArrayBuffer]") return new Uint8Array(data);
  throw new TypeError(`SubtleCrypto: ${what} is not a BufferSource`);
}

const bufferOf = (bytes) =>
  bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);

/** The parameters of an algorithm, with its standard name. */
function normalize(algorithm, supported) {
  const given = typeof algorithm === "string" ? { name: algorithm } : algorithm;
  const name = BY_LOWER_NAME.get(String(given?.name).toLowerCase());
  if (name === undefined || !supported.includes(name)) {
    throw fail("NotSupportedError", `the algorithm ${given?.name} is not supported here; supported are ${supported.join(", ")}`);
  }
  return { ...given, name };
}

function hashOf(algorithm) {
  return HASHES[normalize(algorithm.hash ?? "", Object.keys(HASHES)).name];
}

const standardHash = (name) => Object.keys(HASHES).find((standard) => HASHES[standard] === name);

const CREATE = Symbol("create");

class CryptoKey {
  #key;
  #fields;

  constructor(key, fields, token) {
    if (token !== CREATE) throw new TypeError("Illegal constructor");
    this.#key = key;
    this.#fields = fields;
  }

  get type() {
    return this.#key.type;
  }

  get extractable() {
    return this.#fields.extractable;
  }

  get algorithm() {
    return this.#fields.algorithm;
  }

  get usages() {
    return [...this.#fields.usages];
  }

  /** The KeyObject of the same key; `KeyObject.from` calls it. */
  toKeyObject() {
    return this.#key;
  }

  get [Symbol.toStringTag]() {
    return "CryptoKey";
  }
}
Object.defineProperty(CryptoKey.prototype, "toKeyObject", { enumerable: false });

/** Checks that `key` may be used so; returns its material. */
function use(key, algorithm, usage) {
  if (!(key instanceof CryptoKey)) throw new TypeError("SubtleCrypto: the key is not a CryptoKey");
  if (key.algorithm.name !== algorithm.name) {
    throw fail("InvalidAccessError", `the key is for ${key.algorithm.name}, not for ${algorithm.name}`);
  }
  if (!key.usages.includes(usage)) throw fail("InvalidAccessError", `the key's usages do not have ${usage}`);
  return handleOf(key.toKeyObject());
}

/** What native code needs to know of a signature by this key. */
function scheme(key, algorithm) {
  switch (algorithm.name) {
    case "RSASSA-PKCS1-v1_5":
      return ["pkcs1", hashOf(key.algorithm), null];
    case "RSA-PSS":
      return ["pss", hashOf(key.algorithm), algorithm.saltLength ?? null];
    case "ECDSA":
      return ["ieee-p1363", hashOf(algorithm), null];
    default:
      return ["ed25519", "sha512", null];
  }
}

/** The `algorithm` of a key that was imported or made. */
function keyAlgorithm(params, key) {
  const { name } = params;
  if (name === "HMAC") {
    const length = params.length ?? key.symmetricKeySize * 8;
    return { name, hash: { name: standardHash(hashOf(params)) }, length };
  }
  if (name === "AES-GCM") return { name, length: key.symmetricKeySize * 8 };
  if (name === "ECDSA") return { name, namedCurve: handleOf(key).kind };
  if (!RSA.includes(name)) return { name };
  const { modulusLength } = key.asymmetricKeyDetails;
  const publicExponent = handleOf(key).parts[1].slice();
  return { name, hash: { name: standardHash(hashOf(params)) }, modulusLength, publicExponent };
}

const KIND_NAMES = { rsa: RSA, "P-256": ["ECDSA"], "P-384": ["ECDSA"], ed25519: ["Ed25519"] };

const ALLOWED = {
  HMAC: { secret: ["sign", "verify"] },
  "AES-GCM": { secret: ["encrypt", "decrypt", "wrapKey", "unwrapKey"] },
  PBKDF2: { secret: ["deriveKey", "deriveBits"] },
  HKDF: { secret: ["deriveKey", "deriveBits"] },
};

function makeCryptoKey(params, key, extractable, usages) {
  const { kind } = handleOf(key);
  if (kind !== undefined && !KIND_NAMES[kind].includes(params.name)) {
    throw fail("DataError", `the key is of the kind ${kind}, which ${params.name} does not use`);
  }
  if ((kind === undefined) !== SECRET.includes(params.name)) {
    throw fail("DataError", `a ${key.type} key is not for ${params.name}`);
  }
  if (params.namedCurve !== undefined && params.namedCurve !== kind) {
    throw fail("DataError", `the key is on the curve ${kind}, not on ${params.namedCurve}`);
  }
  const allowed = ALLOWED[params.name]?.[key.type] ?? (key.type === "private" ? ["sign"] : ["verify"]);
  const wrong = usages.find((usage) => !allowed.includes(usage));
  if (wrong !== undefined) throw syntaxError(`a ${key.type} key of ${params.name} cannot ${wrong}`);
  if (key.type !== "public" && usages.length === 0) {
    throw syntaxError("Usages cannot be empty when importing or making a secret or private key");
  }
  const fields = { extractable: key.type === "public" || Boolean(extractable), algorithm: keyAlgorithm(params, key), usages };
  return new CryptoKey(key, fields, CREATE);
}

/** A DOMException of the name that WebCrypto has for wrong usages. */
function syntaxError(message) {
  return fail("SyntaxError", message);
}

function importMaterial(format, data, params) {
  if (format === "jwk") {
    if (typeof data !== "object" || data === null) throw new TypeError("SubtleCrypto.importKey: the key is not a JWK");
    return fromJwk(data);
  }
  const bytes = bytesOf(data, "the key");
  if (format === "spki") return makeKey("public", native.crypto.readPublic("spki", bytes));
  if (format === "pkcs8") return makeKey("private", native.crypto.readPrivate("pkcs8", bytes));
  if (format !== "raw" && format !== "raw-secret" && format !== "raw-public") {
    throw fail("NotSupportedError", `the format ${format} is not supported`);
  }
  if (SECRET.includes(params.name)) return makeKey("secret", { bytes: bytes.slice() });
  if (RSA.includes(params.name)) throw fail("NotSupportedError", "an RSA key has no raw format");
  const kind = params.name === "ECDSA" ? params.namedCurve : "ed25519";
  return makeKey("public", native.crypto.assemblePublic(kind, [bytes]));
}

class SubtleCrypto {
  async digest(algorithm, data) {
    const { name } = normalize(algorithm, Object.keys(HASHES));
    return bufferOf(native.crypto.digest(HASHES[name], bytesOf(data, "the data")));
  }

  async importKey(format, data, algorithm, extractable, usages) {
    const params = normalize(algorithm, NAMES);
    let key;
    try {
      key = importMaterial(format, data, params);
    } catch (error) {
      if (error instanceof TypeError && error.code === undefined) throw error;
      if (error instanceof DOMException) throw error;
      throw fail("DataError", error.message);
    }
    if (params.name === "AES-GCM" && ![16, 24, 32].includes(key.symmetricKeySize)) {
      throw fail("DataError", "an AES key has 128, 192 or 256 bits");
    }
    return makeCryptoKey(params, key, extractable, [...usages]);
  }

  async exportKey(format, key) {
    if (!(key instanceof CryptoKey)) throw new TypeError("SubtleCrypto: the key is not a CryptoKey");
    if (!key.extractable) throw fail("InvalidAccessError", "the key is not extractable");
    const material = handleOf(key.toKeyObject());
    if (format === "jwk") {
      const jwk = { ...toJwk(key.toKeyObject()), key_ops: key.usages, ext: key.extractable };
      const alg = jwkAlgorithm(key.algorithm);
      return alg === undefined ? jwk : { ...jwk, alg };
    }
    const wanted = { raw: "secret", spki: "public", pkcs8: "private" }[format];
    if (format === "raw" && key.type === "public" && material.kind !== "rsa") {
      return bufferOf(encode((material.kind === "ed25519" ? "" : "04") + material.parts.map((part) => decode(part, "hex")).join(""), "hex"));
    }
    if (wanted !== key.type) throw fail("NotSupportedError", `a ${key.type} key cannot be exported as ${format}`);
    return bufferOf((material.bytes ?? material.der).slice());
  }

  async sign(algorithm, key, data) {
    const params = normalize(algorithm, ["HMAC", ...RSA, "ECDSA", "Ed25519"]);
    const material = use(key, params, "sign");
    const message = bytesOf(data, "the data");
    if (params.name === "HMAC") return bufferOf(native.crypto.hmac(hashOf(key.algorithm), material.bytes, message));
    const [name, hash, salt] = scheme(key, params);
    return bufferOf(operation(() => native.crypto.sign(material.der, name, hash, message, salt)));
  }

  async verify(algorithm, key, signature, data) {
    const params = normalize(algorithm, ["HMAC", ...RSA, "ECDSA", "Ed25519"]);
    const material = use(key, params, "verify");
    const [given, message] = [bytesOf(signature, "the signature"), bytesOf(data, "the data")];
    if (params.name === "HMAC") {
      const expected = native.crypto.hmac(hashOf(key.algorithm), material.bytes, message);
      return expected.length === given.length && native.crypto.equal(expected, given);
    }
    const [name, hash, salt] = scheme(key, params);
    return operation(() => native.crypto.verify(material.der, name, hash, message, given, salt));
  }

  async encrypt(algorithm, key, data) {
    return crypt(true, normalize(algorithm, ["AES-GCM"]), key, data);
  }

  async decrypt(algorithm, key, data) {
    return crypt(false, normalize(algorithm, ["AES-GCM"]), key, data);
  }

  async generateKey(algorithm, extractable, usages) {
    const params = normalize(algorithm, ["HMAC", "AES-GCM", "ECDSA", "Ed25519"]);
    usages = [...usages];
    if (SECRET.includes(params.name)) {
      const bits = params.length ?? HASH_BITS[hashOf(params)];
      const key = makeKey("secret", { bytes: new Uint8Array(randomBytes(bits >> 3)) });
      return makeCryptoKey(params, key, extractable, usages);
    }
    const kind = params.name === "ECDSA" ? params.namedCurve : "ed25519";
    if (!(kind in KIND_NAMES)) throw fail("NotSupportedError", `the curve ${kind} is not supported; P-256 and P-384 are`);
    const { publicKey, privateKey } = generatePair(kind);
    const some = (name) => usages.filter((usage) => usage === name);
    return {
      publicKey: makeCryptoKey(params, publicKey, true, some("verify")),
      privateKey: makeCryptoKey(params, privateKey, extractable, some("sign")),
    };
  }

  async deriveBits(algorithm, key, length) {
    const params = normalize(algorithm, ["PBKDF2", "HKDF"]);
    const usage = key.usages?.includes("deriveBits") ? "deriveBits" : "deriveKey";
    const { bytes } = use(key, params, usage);
    if (!Number.isInteger(length) || length % 8 !== 0) throw fail("OperationError", "the length is not a multiple of 8");
    const salt = bytesOf(params.salt, "the salt");
    const hash = hashOf(params);
    if (params.name === "PBKDF2") {
      return bufferOf(native.crypto.pbkdf2(hash, bytes, salt, params.iterations, length / 8));
    }
    return hkdfSync(hash, bytes, salt, bytesOf(params.info, "the info"), length / 8);
  }

  async deriveKey(algorithm, key, derived, extractable, usages) {
    const params = normalize(derived, ["HMAC", "AES-GCM"]);
    const length = params.length ?? HASH_BITS[hashOf(params)];
    const bits = await this.deriveBits(algorithm, key, length);
    return this.importKey("raw", bits, derived, extractable, usages);
  }

  async wrapKey() {
    throw fail("NotSupportedError", "SubtleCrypto.wrapKey is not available in a component handler");
  }

  async unwrapKey() {
    throw fail("NotSupportedError", "SubtleCrypto.unwrapKey is not available in a component handler");
  }

  get [Symbol.toStringTag]() {
    return "SubtleCrypto";
  }
}

function operation(compute) {
  try {
    return compute();
  } catch (error) {
    throw fail("OperationError", error.message);
  }
}

function crypt(encrypt, params, key, data) {
  const { bytes } = use(key, params, encrypt ? "encrypt" : "decrypt");
  if (params.tagLength !== undefined && params.tagLength !== 128) {
    throw fail("NotSupportedError", "AES-GCM: another tagLength than 128 is not supported");
  }
  const associated = params.additionalData === undefined ? new Uint8Array(0) : bytesOf(params.additionalData, "additionalData");
  const iv = bytesOf(params.iv, "the iv");
  return bufferOf(operation(() => native.crypto.aesGcm(encrypt, bytes, iv, associated, bytesOf(data, "the data"))));
}

function jwkAlgorithm({ name, hash, length }) {
  const bits = hash?.name.slice(4);
  if (name === "HMAC") return `HS${bits}`;
  if (name === "AES-GCM") return `A${length}GCM`;
  if (name === "RSASSA-PKCS1-v1_5") return `RS${bits}`;
  if (name === "RSA-PSS") return `PS${bits}`;
  return name === "Ed25519" ? "Ed25519" : undefined;
}

class Crypto {
  #subtle = new SubtleCrypto();

  get subtle() {
    return this.#subtle;
  }

  getRandomValues(target) {
    return getRandomValues(target);
  }

  randomUUID() {
    return randomUUID();
  }

  get [Symbol.toStringTag]() {
    return "Crypto";
  }
}

export const webcrypto = new Crypto();
export { Crypto, CryptoKey, SubtleCrypto, makeCryptoKey };
