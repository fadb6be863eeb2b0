// Bytes as the functions of node:crypto and WebCrypto accept and return them.
import { asBuffer, decode, encode } from "../buffer.js";
import { invalidType } from "../errors.js";

/** A Uint8Array over the memory of `data`, or the bytes of a string. */
export function toBytes(data, encoding, name = "data") {
  if (typeof data === "string") return encode(data, encoding === "buffer" ? "utf8" : encoding);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw invalidType(name, "of type string or an instance of Buffer, TypedArray, or DataView", data);
}

/** A Buffer, or a string if there is an encoding. */
export function fromBytes(bytes, encoding) {
  return encoding === undefined || encoding === null || encoding === "buffer" ? asBuffer(bytes) : decode(bytes, encoding);
}

/** The name of a hash as native code has it: "SHA-256" and "RSA-SHA256" are "sha256". */
export function hashName(name) {
  if (typeof name !== "string") throw invalidType("algorithm", "of type string", name);
  return name
    .toLowerCase()
    .replace(/^rsa-/, "")
    .replace(/^sha2?-/, "sha");
}
