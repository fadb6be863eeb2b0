// TextEncoder and TextDecoder of the Encoding standard, for UTF-8, UTF-16 and windows-1252 (latin1).

import { native } from "../native.js";
import { concat, viewOf } from "./bytes.js";
import { tag } from "./event.js";

const { utf8Encode, utf8Decode, utf8Tail, utf16Decode, windows1252Decode } = native.encoding;

export class TextEncoder {
  get encoding() { return "utf-8"; }

  encode(text = "") {
    return utf8Encode(`${text}`.toWellFormed());
  }

  /** Writes as many whole characters as fit. */
  encodeInto(source, destination) {
    if (!(destination instanceof Uint8Array)) {
      throw new TypeError("TextEncoder.encodeInto: the destination is not a Uint8Array");
    }
    source = `${source}`.toWellFormed();
    // A UTF-16 unit takes at least one byte, so that only that much of the source can fit.
    let read = Math.min(source.length, destination.length);
    let bytes = utf8Encode(source.slice(0, read).toWellFormed());
    if (bytes.length > destination.length || endsWithHalf(source, read)) {
      let written = 0;
      read = 0;
      for (const character of source) {
        const code = character.codePointAt(0);
        const size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        if (written + size > destination.length) break;
        written += size;
        read += character.length;
      }
      bytes = utf8Encode(source.slice(0, read));
    }
    destination.set(bytes);
    return { read, written: bytes.length };
  }
}
tag(TextEncoder, "TextEncoder");

/** Returns whether `end` is within a pair of surrogates. */
function endsWithHalf(text, end) {
  return end < text.length && text.charCodeAt(end - 1) >> 10 === 0x36 && text.charCodeAt(end) >> 10 === 0x37;
}

const UTF_8 = "utf-8";
const UTF_16LE = "utf-16le";
const UTF_16BE = "utf-16be";
const WINDOWS_1252 = "windows-1252";

const LABELS = new Map();
for (const [encoding, labels] of [
  [UTF_8, "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8"],
  [UTF_16LE, "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le"],
  [UTF_16BE, "unicodefffe utf-16be"],
  [WINDOWS_1252, "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 "
    + "iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252"],
]) for (const label of labels.split(" ")) LABELS.set(label, encoding);

const EMPTY = new Uint8Array(0);

export class TextDecoder {
  #encoding;
  #fatal;
  #ignoreBOM;
  /** Bytes of a character that is not complete yet. */
  #pending = EMPTY;
  /** Whether a byte order mark would no longer be one. */
  #markSeen = false;
  /** Whether the next call continues a stream. */
  #streaming = false;

  constructor(label = UTF_8, options = undefined) {
    const encoding = LABELS.get(`${label}`.trim().toLowerCase());
    if (encoding === undefined) {
      const error = new RangeError(
        `TextDecoder: the encoding ${JSON.stringify(`${label}`)} is not available; available are utf-8, utf-16le, `
        + "utf-16be and windows-1252 (latin1)",
      );
      error.code = "ERR_ENCODING_NOT_SUPPORTED";
      throw error;
    }
    this.#encoding = encoding;
    this.#fatal = Boolean(options?.fatal);
    this.#ignoreBOM = Boolean(options?.ignoreBOM);
  }

  get encoding() { return this.#encoding; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#ignoreBOM; }

  decode(input = undefined, options = undefined) {
    let bytes = input === undefined ? EMPTY : viewOf(input);
    if (bytes === undefined) throw new TypeError("TextDecoder.decode: the argument is neither an ArrayBuffer nor a view");
    const stream = Boolean(options?.stream);
    if (!this.#streaming) {
      this.#pending = EMPTY;
      this.#markSeen = false;
    }
    this.#streaming = stream;
    if (this.#pending.length > 0) {
      bytes = concat([this.#pending, bytes]);
      this.#pending = EMPTY;
    }
    if (stream) {
      const tail = this.#tail(bytes);
      if (tail > 0) {
        this.#pending = bytes.slice(bytes.length - tail);
        bytes = bytes.subarray(0, bytes.length - tail);
      }
    }
    let text;
    if (this.#encoding === UTF_8) text = utf8Decode(bytes, this.#fatal);
    else if (this.#encoding === WINDOWS_1252) return windows1252Decode(bytes);
    else text = utf16Decode(bytes, this.#encoding === UTF_16BE, this.#fatal);
    if (text === undefined || text === null) {
      this.#streaming = false;
      const error = new TypeError(`The encoded data was not valid for encoding ${this.#encoding}`);
      error.code = "ERR_ENCODING_INVALID_ENCODED_DATA";
      throw error;
    }
    if (!this.#markSeen && text.length > 0) {
      this.#markSeen = true;
      if (!this.#ignoreBOM && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    return text;
  }

  /** Returns how many bytes at the end wait for further ones. */
  #tail(bytes) {
    if (this.#encoding === WINDOWS_1252) return 0;
    if (this.#encoding === UTF_8) return bytes.length === 0 ? 0 : utf8Tail(bytes.subarray(-3));
    const odd = bytes.length % 2;
    const last = bytes.length - odd - 2;
    if (last < 0) return odd;
    const high = this.#encoding === UTF_16BE ? bytes[last] : bytes[last + 1];
    return high >> 2 === 0x36 ? odd + 2 : odd;
  }
}
tag(TextDecoder, "TextDecoder");
