// Bytes: views on the types that the web platform calls BufferSource, and text as UTF-8.

import { native } from "../native.js";

const { utf8Encode, utf8Decode } = native.encoding;

const bufferLength = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength").get;

/** Returns whether a value is an ArrayBuffer, also one that another prototype hides. */
export function isArrayBuffer(value) {
  try {
    bufferLength.call(value);
    return true;
  } catch {
    return false;
  }
}

/** Returns a Uint8Array on the memory of an ArrayBuffer or of a view; `undefined` for another value. */
export function viewOf(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (typeof source === "object" && source !== null && (isArrayBuffer(source) || source instanceof SharedArrayBuffer)) {
    return new Uint8Array(source);
  }
  return undefined;
}

export function encode(text) {
  return utf8Encode(text.toWellFormed());
}

/** Decodes UTF-8, without a byte order mark at its start. */
export function decode(bytes) {
  const hasMark = bytes.length >= 3 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  return utf8Decode(hasMark ? bytes.subarray(3) : bytes, false);
}

export function concat(chunks) {
  if (chunks.length === 1) return chunks[0];
  let length = 0;
  for (const chunk of chunks) length += chunk.length;
  const all = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.length;
  }
  return all;
}

/** Returns the ArrayBuffer of exactly these bytes; copies only if they are a part of a larger buffer. */
export function exactBuffer(bytes) {
  const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
  return whole ? bytes.buffer : bytes.slice().buffer;
}
