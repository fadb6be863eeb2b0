// Hashes, HMAC, and keys derived from passwords, as node:crypto has them.
import { native } from "../../native.js";
import { concat } from "../../web/bytes.js";
import { coded, invalidType } from "../errors.js";
import { stream } from "../stream.js";
import { fromBytes, hashName, toBytes } from "./bytes.js";
import { secretBytes } from "./keys.js";

const HASHES = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];

export const getHashes = () => ["RSA-MD5", "RSA-SHA1", "RSA-SHA224", "RSA-SHA256", "RSA-SHA384", "RSA-SHA512", ...HASHES];

const known = (algorithm) => {
  const name = hashName(algorithm);
  return HASHES.includes(name) ? name : undefined;
};
const supported = `supported are ${HASHES.join(", ")}`;

/** The hash of createHash. */
function messageHash(algorithm) {
  const name = known(algorithm);
  if (name === undefined) throw new Error(`Digest method not supported: ${algorithm}; ${supported}`);
  return name;
}

/** The hash inside of another algorithm: HMAC, a signature, a derivation. */
export function requireHash(algorithm) {
  const name = known(algorithm);
  if (name === undefined) {
    throw coded(new TypeError(`Invalid digest: ${algorithm}; ${supported}`), "ERR_CRYPTO_INVALID_DIGEST");
  }
  return name;
}

/** What Hash and Hmac share: the message is kept, and hashed in one native call. */
class Digest {
  #chunks = [];
  #done = false;
  #stream;

  update(data, encoding) {
    if (this.#done) throw coded(new Error("Digest already called"), "ERR_CRYPTO_HASH_FINALIZED");
    const bytes = toBytes(data, encoding);
    // A string's bytes are new; those of others may change before the digest.
    this.#chunks.push(typeof data === "string" ? bytes : bytes.slice());
    return this;
  }

  digest(encoding) {
    if (this.#done) throw coded(new Error("Digest already called"), "ERR_CRYPTO_HASH_FINALIZED");
    this.#done = true;
    return fromBytes(this.compute(concat(this.#chunks)), encoding);
  }

  /** Gives `other` the message so far. */
  share(other) {
    if (this.#done) throw coded(new Error("Digest already called"), "ERR_CRYPTO_HASH_FINALIZED");
    other.#chunks = [...this.#chunks];
    return other;
  }

  /** The stream form: a Transform that is made when its first method is called. */
  transform() {
    this.#stream ??= new stream.Transform({
      transform: (chunk, encoding, callback) => {
        this.update(chunk, encoding);
        callback();
      },
      flush: (callback) => callback(null, this.digest()),
    });
    return this.#stream;
  }
}
for (const name of ["write", "end", "read", "on", "once", "off", "emit", "pipe", "setEncoding", "removeListener", Symbol.asyncIterator]) {
  Digest.prototype[name] = function (...args) {
    const target = this.transform();
    const result = target[name](...args);
    return result === target ? this : result;
  };
}

export class Hash extends Digest {
  #name;

  constructor(algorithm) {
    super();
    this.#name = messageHash(algorithm);
  }

  compute(message) {
    return native.crypto.digest(this.#name, message);
  }

  copy() {
    return this.share(new Hash(this.#name));
  }
}

export class Hmac extends Digest {
  #name;
  #key;

  constructor(algorithm, key) {
    super();
    this.#name = requireHash(algorithm);
    this.#key = secretBytes(key).slice();
  }

  compute(message) {
    return native.crypto.hmac(this.#name, this.#key, message);
  }
}

export const createHash = (algorithm) => new Hash(algorithm);
export const createHmac = (algorithm, key) => new Hmac(algorithm, key);

/** Hashes at once, as `crypto.hash` of node 21. */
export function hash(algorithm, data, encoding = "hex") {
  return fromBytes(native.crypto.digest(messageHash(algorithm), toBytes(data)), encoding);
}

export function timingSafeEqual(a, b) {
  const [left, right] = [toBytes(a, undefined, "buf1"), toBytes(b, undefined, "buf2")];
  if (typeof a === "string" || typeof b === "string") {
    throw invalidType("buf1", "an instance of ArrayBuffer, Buffer, TypedArray, or DataView", a);
  }
  if (left.length !== right.length) {
    throw coded(new RangeError("Input buffers must have the same byte length"), "ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH");
  }
  return native.crypto.equal(left, right);
}

/** Runs `compute` in a later job and passes its result or its error to the callback. */
export function later(callback, compute) {
  if (typeof callback !== "function") throw invalidType("callback", "of type function", callback);
  process.nextTick(() => {
    let value;
    try {
      value = compute();
    } catch (error) {
      callback(error);
      return;
    }
    callback(null, value);
  });
}

export function pbkdf2Sync(password, salt, iterations, length, digest) {
  if (!(iterations >= 1)) throw coded(new RangeError('The value of "iterations" is out of range'), "ERR_OUT_OF_RANGE");
  const name = requireHash(digest);
  return fromBytes(native.crypto.pbkdf2(name, toBytes(password), toBytes(salt), iterations, length));
}

export function pbkdf2(password, salt, iterations, length, digest, callback) {
  requireHash(digest);
  later(callback, () => pbkdf2Sync(password, salt, iterations, length, digest));
}

export function scryptSync(password, salt, length, options = {}) {
  const cost = options.N ?? options.cost ?? 16384;
  const r = options.r ?? options.blockSize ?? 8;
  const p = options.p ?? options.parallelization ?? 1;
  const most = options.maxmem ?? 32 * 1024 * 1024;
  const exponent = Math.log2(cost);
  if (!Number.isInteger(exponent) || exponent < 1 || 128 * cost * r > most) {
    throw coded(new RangeError("Invalid scrypt params: memory limit exceeded"), "ERR_CRYPTO_INVALID_SCRYPT_PARAMS");
  }
  return fromBytes(native.crypto.scrypt(toBytes(password), toBytes(salt), exponent, r, p, length));
}

export function scrypt(password, salt, length, options, callback) {
  if (typeof options === "function") [callback, options] = [options, {}];
  later(callback, () => scryptSync(password, salt, length, options));
}

/** HKDF of RFC 5869. */
export function hkdfSync(digest, key, salt, info, length) {
  const name = requireHash(digest);
  const pseudorandom = native.crypto.hmac(name, toBytes(salt), secretBytes(key));
  const blocks = [];
  let block = new Uint8Array(0);
  for (let have = 0; have < length; have += block.length) {
    if (blocks.length === 255) throw coded(new RangeError("Invalid key length"), "ERR_CRYPTO_INVALID_KEYLEN");
    block = native.crypto.hmac(name, pseudorandom, concat([block, toBytes(info), Uint8Array.of(blocks.length + 1)]));
    blocks.push(block);
  }
  const bytes = blocks.length === 0 ? new Uint8Array(0) : concat(blocks);
  return bytes.slice(0, length).buffer;
}

export function hkdf(digest, key, salt, info, length, callback) {
  later(callback, () => hkdfSync(digest, key, salt, info, length));
}
