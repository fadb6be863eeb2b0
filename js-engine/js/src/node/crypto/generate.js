// New keys. RSA keys take seconds in an interpreter and are refused.
import { native } from "../../native.js";
import { invalidType, unavailable } from "../errors.js";
import { makeKey } from "./keys.js";
import { randomBytes } from "./random.js";

const CURVES = { prime256v1: "P-256", "P-256": "P-256", secp384r1: "P-384", "P-384": "P-384" };
const SECRET_BYTES = { "P-256": 32, "P-384": 48, ed25519: 32 };

/** A new pair of keys of a kind: P-256, P-384 or ed25519. */
export function generatePair(kind) {
  const handle = native.crypto.assemblePrivate(kind, [new Uint8Array(randomBytes(SECRET_BYTES[kind]))]);
  return {
    privateKey: makeKey("private", handle),
    publicKey: makeKey("public", native.crypto.publicOf(handle.der)),
  };
}

export function generateKeyPairSync(type, options = {}) {
  const kind = type === "ec" ? CURVES[options.namedCurve] : type;
  if (SECRET_BYTES[kind] === undefined) {
    throw unavailable(`a new key of the type ${type} ${options.namedCurve ?? ""}`.trim(), "use ed25519, P-256 or P-384");
  }
  const pair = generatePair(kind);
  const exported = (key, encoding) => (encoding === undefined ? key : key.export(encoding));
  return {
    publicKey: exported(pair.publicKey, options.publicKeyEncoding),
    privateKey: exported(pair.privateKey, options.privateKeyEncoding),
  };
}

export function generateKeyPair(type, options, callback) {
  if (typeof callback !== "function") throw invalidType("callback", "of type function", callback);
  const { publicKey, privateKey } = generateKeyPairSync(type, options);
  process.nextTick(callback, null, publicKey, privateKey);
}

export function generateKeySync(type, options) {
  if (type !== "hmac" && type !== "aes") throw invalidType("type", '"hmac" or "aes"', type);
  return makeKey("secret", { bytes: new Uint8Array(randomBytes(options.length >> 3)) });
}

