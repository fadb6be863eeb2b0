// KeyObject: keys as PEM, DER and JWK. Asymmetric keys are kept as DER (SPKI and PKCS #8) and their parts, so that nothing
// of a key is in native memory.
import { native } from "../../native.js";
import { decode, encode } from "../buffer.js";
import { coded, invalidType, unavailable } from "../errors.js";
import { fromBytes, toBytes } from "./bytes.js";

const base64url = (bytes) => decode(bytes, "base64url");
const unbase64url = (text) => encode(text, "base64url");

/** Of each kind of key: the names of JWK for its public and its secret parts, and what they say of the kind. */
const JWK = {
  rsa: { fixed: { kty: "RSA" }, open: ["n", "e"], secret: ["d", "p", "q"] },
  "P-256": { fixed: { kty: "EC", crv: "P-256" }, open: ["x", "y"], secret: ["d"] },
  "P-384": { fixed: { kty: "EC", crv: "P-384" }, open: ["x", "y"], secret: ["d"] },
  ed25519: { fixed: { kty: "OKP", crv: "Ed25519" }, open: ["x"], secret: ["d"] },
};
const NODE_CURVES = { "P-256": "prime256v1", "P-384": "secp384r1" };

const handles = new WeakMap();

/** The material of a KeyObject: `{ bytes }` of a secret key, `{ kind, der, parts }` of others. */
export const handleOf = (key) => handles.get(key);

const CREATE = Symbol("create");

export class KeyObject {
  constructor(type, handle, token) {
    if (token !== CREATE) throw coded(new TypeError("Illegal constructor"), "ERR_ILLEGAL_CONSTRUCTOR");
    this.type = type;
    Object.defineProperty(this, "type", { enumerable: true, writable: false });
    handles.set(this, handle);
  }

  static from(cryptoKey) {
    return cryptoKey.toKeyObject();
  }

  get asymmetricKeyType() {
    const { kind } = handles.get(this);
    return kind in NODE_CURVES ? "ec" : kind;
  }

  get asymmetricKeyDetails() {
    const { kind, parts } = handles.get(this);
    if (kind === undefined) return undefined;
    if (kind in NODE_CURVES) return { namedCurve: NODE_CURVES[kind] };
    if (kind !== "rsa") return {};
    const [modulus, exponent] = parts;
    return {
      modulusLength: modulus.length * 8 - (Math.clz32(modulus[0]) - 24),
      publicExponent: exponent.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n),
    };
  }

  get symmetricKeySize() {
    return handles.get(this).bytes?.length;
  }

  export(options = {}) {
    const handle = handles.get(this);
    if (options.format === "jwk") return toJwk(this);
    if (this.type === "secret") return fromBytes(handle.bytes.slice());
    const form = this.type === "public" ? "spki" : "pkcs8";
    if (options.type !== undefined && options.type !== form) {
      throw unavailable(`KeyObject.export of type ${options.type}`, `use ${form}`);
    }
    if (options.cipher !== undefined) throw unavailable("KeyObject.export with a cipher");
    if (options.format === "der") return fromBytes(handle.der.slice());
    return toPem(this.type === "public" ? "PUBLIC KEY" : "PRIVATE KEY", handle.der);
  }

  equals(other) {
    const [a, b] = [handles.get(this), handles.get(other)];
    if (this.type !== other.type) return false;
    const [left, right] = [a.bytes ?? a.der, b.bytes ?? b.der];
    return left.length === right.length && native.crypto.equal(left, right);
  }

  get [Symbol.toStringTag]() {
    return "KeyObject";
  }
}

export const makeKey = (type, handle) => new KeyObject(type, handle, CREATE);

/** The bytes of a symmetric key. */
export function secretBytes(key, encoding) {
  if (key instanceof KeyObject) {
    if (key.type !== "secret") {
      const error = new TypeError(`Invalid key object type ${key.type}, expected secret.`);
      throw coded(error, "ERR_CRYPTO_INVALID_KEY_OBJECT_TYPE");
    }
    return handles.get(key).bytes;
  }
  const inner = key?.toKeyObject?.();
  return inner === undefined ? toBytes(key, encoding, "key") : secretBytes(inner);
}

export function createSecretKey(key, encoding) {
  return makeKey("secret", { bytes: toBytes(key, encoding, "key").slice() });
}

function toPem(label, der) {
  const lines = decode(der, "base64").match(/.{1,64}/g).join("\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

const LABELS = {
  "PUBLIC KEY": ["public", "spki"],
  "RSA PUBLIC KEY": ["public", "pkcs1"],
  "PRIVATE KEY": ["private", "pkcs8"],
  "RSA PRIVATE KEY": ["private", "pkcs1"],
  "EC PRIVATE KEY": ["private", "sec1"],
};

function invalidKey(message) {
  return coded(new Error(message), "ERR_OSSL_UNSUPPORTED");
}

/** Reads the first key of a PEM text. */
function fromPem(text) {
  const block = /-----BEGIN ([A-Z0-9 ]+)-----([\s\S]+?)-----END \1-----/.exec(text);
  // A file of an elliptic curve may begin with the curve's parameters.
  if (block?.[1] === "EC PARAMETERS") return fromPem(text.slice(block.index + block[0].length));
  if (block === null) throw invalidKey("the key is not in PEM: no line -----BEGIN ...-----");
  const [, label, body] = block;
  const known = LABELS[label];
  if (known === undefined) throw unavailable(`a key from PEM ${label}`, "give the public key as PEM PUBLIC KEY");
  if (/^Proc-Type:.*ENCRYPTED/m.test(body)) throw unavailable("an encrypted private key");
  return { type: known[0], form: known[1], der: encode(body, "base64") };
}

function read(type, form, der) {
  return type === "public" ? native.crypto.readPublic(form, der) : native.crypto.readPrivate(form, der);
}

export function fromJwk(jwk) {
  if (jwk.kty === "oct") return makeKey("secret", { bytes: unbase64url(jwk.k) });
  const kind = Object.keys(JWK).find((name) => JWK[name].fixed.kty === jwk.kty && JWK[name].fixed.crv === jwk.crv);
  if (kind === undefined) {
    throw coded(new TypeError(`Unsupported JWK: kty ${jwk.kty}, crv ${jwk.crv}`), "ERR_CRYPTO_INVALID_JWK");
  }
  const parts = (names) =>
    names.map((name) => {
      if (typeof jwk[name] !== "string") {
        throw coded(new TypeError(`The JWK has no "${name}"`), "ERR_CRYPTO_INVALID_JWK");
      }
      return unbase64url(jwk[name]);
    });
  const { open, secret } = JWK[kind];
  if (jwk.d === undefined) return makeKey("public", native.crypto.assemblePublic(kind, parts(open)));
  const all = kind === "rsa" ? parts([...open, ...secret]) : parts(secret);
  return makeKey("private", native.crypto.assemblePrivate(kind, all));
}

/** A big-endian number as BigInt, and back. */
const number = (bytes) => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
const unnumber = (value) => {
  const hex = value.toString(16);
  return encode(hex.length % 2 === 0 ? hex : `0${hex}`, "hex");
};

/** The inverse of `a` modulo `m`, by Euclid's algorithm. */
function inverse(a, m) {
  let [old, rest, x, y] = [a, m, 1n, 0n];
  while (rest !== 0n) {
    const quotient = old / rest;
    [old, rest] = [rest, old - quotient * rest];
    [x, y] = [y, x - quotient * y];
  }
  return ((x % m) + m) % m;
}

export function toJwk(key) {
  const handle = handles.get(key);
  if (key.type === "secret") return { kty: "oct", k: base64url(handle.bytes) };
  const { fixed, open, secret } = JWK[handle.kind];
  const names = key.type === "public" ? open : [...open, ...secret];
  const jwk = { ...fixed };
  names.forEach((name, i) => {
    jwk[name] = base64url(handle.parts[i]);
  });
  if (handle.kind === "rsa" && key.type === "private") {
    const [d, p, q] = handle.parts.slice(2).map(number);
    jwk.dp = base64url(unnumber(d % (p - 1n)));
    jwk.dq = base64url(unnumber(d % (q - 1n)));
    jwk.qi = base64url(unnumber(inverse(q, p)));
  }
  return jwk;
}

/** A KeyObject from what createPublicKey and createPrivateKey accept, of the type that is in it. */
function fromInput(input, wanted) {
  if (input instanceof KeyObject) return input;
  const inner = input?.toKeyObject?.();
  if (inner !== undefined) return inner;
  const options =
    typeof input === "object" && input !== null && !ArrayBuffer.isView(input) && !(input instanceof ArrayBuffer)
      ? input
      : { key: input };
  const { key, format = "pem" } = options;
  if (key instanceof KeyObject || key?.toKeyObject !== undefined) return fromInput(key);
  if (format === "jwk") return fromJwk(key);
  if (options.passphrase !== undefined && options.passphrase !== null && options.passphrase !== "") {
    throw unavailable("an encrypted private key");
  }
  if (format === "der") {
    const form = options.type ?? (wanted === "public" ? "spki" : "pkcs8");
    const type = form === "spki" || (form === "pkcs1" && wanted === "public") ? "public" : "private";
    return makeKey(type, read(type, form, toBytes(key, options.encoding, "key")));
  }
  const text = typeof key === "string" ? key : decode(toBytes(key, undefined, "key"), "utf8");
  const { type, form, der } = fromPem(text);
  return makeKey(type, read(type, form, der));
}

export function createPublicKey(input) {
  const key = fromInput(input, "public");
  if (key.type === "private") return makeKey("public", native.crypto.publicOf(handles.get(key).der));
  if (key.type !== "public") throw invalidType("key", "a public or private key", key);
  return key;
}

export function createPrivateKey(input) {
  const key = fromInput(input, "private");
  if (key.type !== "private") throw invalidKey("the key is not a private key");
  return key;
}
