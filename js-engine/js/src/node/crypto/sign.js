// Signatures as node:crypto makes and verifies them.
import { native } from "../../native.js";
import { concat } from "../../web/bytes.js";
import { coded } from "../errors.js";
import { fromBytes, toBytes } from "./bytes.js";
import { later, requireHash } from "./hash.js";
import { createPrivateKey, createPublicKey, handleOf } from "./keys.js";

export const constants = {
  RSA_PKCS1_PADDING: 1,
  RSA_NO_PADDING: 3,
  RSA_PKCS1_OAEP_PADDING: 4,
  RSA_PKCS1_PSS_PADDING: 6,
  RSA_PSS_SALTLEN_DIGEST: -1,
  RSA_PSS_SALTLEN_MAX_SIGN: -2,
  RSA_PSS_SALTLEN_AUTO: -2,
};

const HASH_BYTES = { md5: 16, sha1: 20, sha224: 28, sha256: 32, sha384: 48, sha512: 64 };

/** What native code needs to know of a signature with this key and these options. */
function scheme(kind, hash, options) {
  if (kind === "ed25519") return { name: "ed25519", salt: undefined };
  if (kind !== "rsa") return { name: options.dsaEncoding === "ieee-p1363" ? "ieee-p1363" : "der", salt: undefined };
  if (options.padding === undefined || options.padding === constants.RSA_PKCS1_PADDING) {
    return { name: "pkcs1", salt: undefined };
  }
  if (options.padding !== constants.RSA_PKCS1_PSS_PADDING) {
    throw coded(new TypeError("Invalid padding of a signature"), "ERR_INVALID_ARG_VALUE");
  }
  const { saltLength } = options;
  if (saltLength === constants.RSA_PSS_SALTLEN_DIGEST) return { name: "pss", salt: HASH_BYTES[hash] };
  return { name: "pss", salt: saltLength >= 0 ? saltLength : undefined };
}

/** The hash, for keys that need one: without a name it is sha256, as in node. */
function hashFor(kind, algorithm) {
  if (kind === "ed25519") return "sha512";
  return algorithm === null || algorithm === undefined ? "sha256" : requireHash(algorithm);
}

const optionsOf = (key) => (typeof key === "object" && key !== null && key.key !== undefined ? key : {});

function signBytes(algorithm, message, key) {
  const { kind, der } = handleOf(createPrivateKey(key));
  const hash = hashFor(kind, algorithm);
  const { name, salt } = scheme(kind, hash, optionsOf(key));
  return native.crypto.sign(der, name, hash, message, salt ?? null);
}

function verifyBytes(algorithm, message, key, signature) {
  const { kind, der } = handleOf(createPublicKey(key));
  const hash = hashFor(kind, algorithm);
  const { name, salt } = scheme(kind, hash, optionsOf(key));
  return native.crypto.verify(der, name, hash, message, signature, salt ?? null);
}

/** Calls back with the result in a later job if there is a callback. */
function answered(callback, compute) {
  return callback === undefined ? compute() : later(callback, compute);
}

export function sign(algorithm, data, key, callback) {
  return answered(callback, () => fromBytes(signBytes(algorithm, toBytes(data), key)));
}

export function verify(algorithm, data, key, signature, callback) {
  return answered(callback, () => verifyBytes(algorithm, toBytes(data), key, toBytes(signature)));
}

class Message {
  #chunks = [];
  #hash;

  constructor(algorithm) {
    this.#hash = requireHash(algorithm);
  }

  update(data, encoding) {
    this.#chunks.push(toBytes(data, encoding).slice());
    return this;
  }

  write(data) {
    this.update(data);
    return true;
  }

  end(data) {
    if (data !== undefined) this.update(data);
    return this;
  }

  take() {
    return [this.#hash, concat(this.#chunks)];
  }
}

export class Sign extends Message {
  sign(key, encoding) {
    const [hash, message] = this.take();
    return fromBytes(signBytes(hash, message, key), encoding);
  }
}

export class Verify extends Message {
  verify(key, signature, encoding) {
    const [hash, message] = this.take();
    return verifyBytes(hash, message, key, toBytes(signature, encoding));
  }
}

export const createSign = (algorithm) => new Sign(algorithm);
export const createVerify = (algorithm) => new Verify(algorithm);
