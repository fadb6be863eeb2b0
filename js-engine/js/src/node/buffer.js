// Node's `Buffer`: npm's `buffer`, with the encodings in native code and the methods that it lacks.
import * as base from "buffer/";
import { native } from "../native.js";

export const { Buffer } = base;

const { fromUtf8, fromLatin1, fromBase64, fromHex, toUtf8, toLatin1, toAscii, toBase64, toBase64Url, toHex, strictUtf8, utf8Length } =
  native.buffer;

const ENCODINGS = {
  utf8: "utf8",
  "utf-8": "utf8",
  hex: "hex",
  base64: "base64",
  base64url: "base64url",
  latin1: "latin1",
  binary: "latin1",
  ascii: "ascii",
  ucs2: "utf16le",
  "ucs-2": "utf16le",
  utf16le: "utf16le",
  "utf-16le": "utf16le",
};

const encoders = {
  utf8: (text) => fromUtf8(text.toWellFormed()),
  hex: (text) => fromHex(text.toWellFormed()),
  base64: (text) => fromBase64(text.toWellFormed()),
  base64url: (text) => fromBase64(text.toWellFormed()),
  latin1: (text) => fromLatin1(text.toWellFormed()),
  ascii: (text) => fromLatin1(text.toWellFormed()),
  utf16le(text) {
    const bytes = new Uint8Array(text.length * 2);
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      bytes[2 * i] = unit;
      bytes[2 * i + 1] = unit >> 8;
    }
    return bytes;
  },
};

const decoders = {
  utf8: toUtf8,
  hex: toHex,
  base64: toBase64,
  base64url: toBase64Url,
  latin1: toLatin1,
  ascii: toAscii,
  utf16le(bytes) {
    let text = "";
    const units = [];
    for (let i = 0; i + 1 < bytes.length; i += 2) {
      units.push(bytes[i] | (bytes[i + 1] << 8));
      if (units.length === 4096) text += String.fromCharCode(...units.splice(0));
    }
    return text + String.fromCharCode(...units);
  },
};

/** The name of an encoding as the tables above have it, or undefined. */
function encodingOf(encoding) {
  return ENCODINGS[encoding] ?? ENCODINGS[String(encoding).toLowerCase()];
}

function requireEncoding(encoding) {
  if (encoding === undefined || encoding === null || encoding === "") return "utf8";
  const known = encodingOf(encoding);
  if (known === undefined) {
    throw Object.assign(new TypeError(`Unknown encoding: ${encoding}`), { code: "ERR_UNKNOWN_ENCODING" });
  }
  return known;
}

/** `bytes` as a Buffer over the same memory. */
export function asBuffer(bytes) {
  return Object.setPrototypeOf(bytes, Buffer.prototype);
}

/** The bytes of a string in an encoding, as a Uint8Array. */
export function encode(text, encoding) {
  return encoders[requireEncoding(encoding)](text);
}

/** The text of bytes in an encoding. */
export function decode(bytes, encoding) {
  return decoders[requireEncoding(encoding)](bytes);
}

const { from, prototype } = { from: Buffer.from, prototype: Buffer.prototype };

const statics = {
  from(value, encodingOrOffset, length) {
    if (typeof value === "string") return asBuffer(encode(value, encodingOrOffset));
    return from.call(Buffer, value, encodingOrOffset, length);
  },
  isEncoding(encoding) {
    return typeof encoding === "string" && encodingOf(encoding) !== undefined;
  },
  byteLength(value, encoding) {
    if (typeof value === "string") {
      const known = encodingOf(encoding) ?? "utf8";
      if (known === "utf8") return utf8Length(value.toWellFormed());
      if (known === "latin1" || known === "ascii") return value.length;
      if (known === "utf16le") return value.length * 2;
      return encoders[known](value).length;
    }
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength;
    throw Object.assign(
      new TypeError('The "string" argument must be of type string or an instance of Buffer or ArrayBuffer'),
      { code: "ERR_INVALID_ARG_TYPE" },
    );
  },
  copyBytesFrom(view, offset = 0, length = view.length - offset) {
    const part = view.subarray(offset, offset + length);
    return Buffer.from(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  },
};

const methods = {
  toString(encoding, start, end) {
    // npm's `buffer` calls it with a range, and templates without arguments.
    if (arguments.length === 0) return toUtf8(this);
    const known = requireEncoding(encoding);
    start = Math.max(0, Math.trunc(start) || 0);
    end = end === undefined ? this.length : Math.min(this.length, Math.trunc(end) || 0);
    if (start >= end) return "";
    return decoders[known](start === 0 && end === this.length ? this : this.subarray(start, end));
  },
  write(text, offset, length, encoding) {
    if (typeof offset === "string") [encoding, offset, length] = [offset, 0, undefined];
    else if (typeof length === "string") [encoding, length] = [length, undefined];
    offset = offset === undefined ? 0 : offset >>> 0;
    if (offset > this.length) {
      throw Object.assign(new RangeError('The value of "offset" is out of range'), { code: "ERR_OUT_OF_RANGE" });
    }
    const space = Math.min(length === undefined ? Infinity : length >>> 0, this.length - offset);
    let bytes = encode(text, encoding);
    if (bytes.length > space) {
      let end = space;
      // No part of a character is written.
      const known = requireEncoding(encoding);
      if (known === "utf8") while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
      if (known === "utf16le") end &= ~1;
      bytes = bytes.subarray(0, end);
    }
    this.set(bytes, offset);
    return bytes.length;
  },
};
methods.toLocaleString = methods.toString;
for (const [name, encoding] of [["utf8", "utf8"], ["ascii", "ascii"], ["latin1", "latin1"], ["hex", "hex"], ["base64", "base64"], ["base64url", "base64url"], ["ucs2", "utf16le"]]) {
  methods[`${name}Slice`] = function slice(start, end) {
    return methods.toString.call(this, encoding, start, end);
  };
  methods[`${name}Write`] = function write(text, offset, length) {
    return methods.write.call(this, text, offset, length, encoding);
  };
}
for (const name of Object.getOwnPropertyNames(prototype)) {
  // Node has both spellings of every one of these: `readBigUInt64LE` and `readBigUint64LE`.
  if (/^(read|write)BigUInt/.test(name)) methods[name.replace("UInt", "Uint")] = prototype[name];
}

function define(target, properties) {
  for (const [name, value] of Object.entries(properties)) {
    Object.defineProperty(target, name, { value, writable: true, configurable: true });
  }
}
define(Buffer, statics);
define(prototype, methods);

const isUtf8 = (bytes) => strictUtf8(asBytes(bytes)) !== undefined;

function asBytes(value) {
  return ArrayBuffer.isView(value)
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : new Uint8Array(value);
}

/** The module `node:buffer`. */
export const buffer = {
  Buffer,
  SlowBuffer: base.SlowBuffer,
  kMaxLength: base.kMaxLength,
  kStringMaxLength: 0x3fffffff,
  INSPECT_MAX_BYTES: 50,
  constants: { MAX_LENGTH: base.kMaxLength, MAX_STRING_LENGTH: 0x3fffffff },
  isUtf8,
  isAscii: (bytes) => asBytes(bytes).every((byte) => byte < 0x80),
  transcode: (source, fromEncoding, toEncoding) => Buffer.from(decode(source, fromEncoding), toEncoding),
  resolveObjectURL: () => undefined,
  get atob() {
    return globalThis.atob;
  },
  get btoa() {
    return globalThis.btoa;
  },
  get Blob() {
    return globalThis.Blob;
  },
  get File() {
    return globalThis.File;
  },
};
