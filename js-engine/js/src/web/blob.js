// Blob and File of the File API. The bytes of a blob are copied when it is made, so that it never changes.

import { concat, encode, viewOf } from "./bytes.js";
import { tag } from "./event.js";
import { ReadableStream } from "./streams.js";
import { TextDecoder } from "./encoding.js";

/** Bytes that `Blob.stream` passes on at once. */
const STREAM_CHUNK_BYTES = 64 * 1024;

export class Blob {
  #bytes;
  #type;

  constructor(parts = [], options = undefined) {
    if (typeof parts !== "object" || parts === null || typeof parts[Symbol.iterator] !== "function") {
      throw new TypeError("Blob: the parts are not a sequence");
    }
    const native = options?.endings === "native";
    const chunks = [];
    for (const part of parts) {
      if (part instanceof Blob) {
        chunks.push(part.#bytes);
      } else {
        const view = viewOf(part);
        chunks.push(view ? view.slice() : encode(native ? `${part}`.replace(/\r\n?/g, "\n") : `${part}`));
      }
    }
    this.#bytes = concat(chunks);
    this.#type = mimeType(options?.type);
  }

  get size() { return this.#bytes.length; }
  get type() { return this.#type; }

  slice(start = 0, end = this.size, type = "") {
    const part = new Blob([], { type });
    part.#bytes = this.#bytes.subarray(position(start, this.size), Math.max(position(end, this.size), position(start, this.size)));
    return part;
  }

  async text() {
    return new TextDecoder().decode(this.#bytes);
  }

  async arrayBuffer() {
    return this.#bytes.slice().buffer;
  }

  async bytes() {
    return this.#bytes.slice();
  }

  stream() {
    const bytes = this.#bytes;
    let offset = 0;
    return new ReadableStream({
      type: "bytes",
      pull(controller) {
        if (offset >= bytes.length) {
          controller.close();
          controller.byobRequest?.respond(0);
          return;
        }
        // A copy, because a byte stream takes the buffer of each chunk away.
        controller.enqueue(bytes.slice(offset, offset + STREAM_CHUNK_BYTES));
        offset += STREAM_CHUNK_BYTES;
      },
    });
  }

  static _bytesOf(blob) { return blob.#bytes; }
}
tag(Blob, "Blob");

/** Returns the bytes of a blob, which the caller may not change. */
export const bytesOf = Blob._bytesOf;
delete Blob._bytesOf;

export class File extends Blob {
  #name;
  #lastModified;

  constructor(parts, name, options = undefined) {
    if (arguments.length < 2) throw new TypeError("File: 2 arguments are required");
    super(parts, options);
    this.#name = `${name}`.toWellFormed();
    this.#lastModified = options?.lastModified === undefined ? Date.now() : Math.trunc(Number(options.lastModified)) || 0;
  }

  get name() { return this.#name; }
  get lastModified() { return this.#lastModified; }
  get webkitRelativePath() { return ""; }
}
tag(File, "File");

function mimeType(type) {
  const text = type === undefined ? "" : `${type}`;
  return /^[\x20-\x7e]*$/.test(text) ? text.toLowerCase() : "";
}

function position(index, size) {
  index = Math.trunc(Number(index)) || 0;
  return index < 0 ? Math.max(size + index, 0) : Math.min(index, size);
}
