// What Request and Response share: a body, which is read once, whole or as a stream.

import { Blob, bytesOf } from "./blob.js";
import { concat, decode, encode, exactBuffer, viewOf } from "./bytes.js";
import { FormData, encodeMultipart, parseFormData } from "./form-data.js";
import { ReadableStream } from "./streams.js";
import { URLSearchParams } from "./url.js";

/**
 * A body. It has one of three sources: bytes, a stream, or a reader of the network, of which a stream is made only if the
 * program asks for one, because most bodies are read whole.
 */
export class Body {
  constructor({ bytes, stream, reader }) {
    /** The whole body; it can be read again, as by a redirect. */
    this.bytes = bytes;
    this.stream = stream;
    /** `read()` returns a promise of a chunk, or of `undefined` at the end; `cancel(reason)` ends it. */
    this.reader = reader;
    this.used = false;
    /** A copy of this body has the same bytes, so that they cannot be given away. */
    this.shared = false;
  }

  get isUsed() {
    return this.used || Boolean(this.stream?._disturbed);
  }

  get isLocked() {
    return Boolean(this.stream?.locked);
  }

  /** Returns the body as a stream, which is always the same one. */
  asStream() {
    if (this.stream) return this.stream;
    const { bytes, reader } = this;
    // The stream is of what remains. If the body was already read whole, it is at its end and locked.
    const used = this.used;
    this.stream = new ReadableStream({
      type: "bytes",
      async pull(controller) {
        const chunk = used || !reader ? undefined : await reader.read();
        if (chunk !== undefined) return controller.enqueue(chunk);
        controller.close();
        controller.byobRequest?.respond(0);
      },
      start(controller) {
        if (!used && bytes?.length > 0) controller.enqueue(bytes.slice());
      },
      cancel: (reason) => reader?.cancel(reason),
    });
    if (used) this.stream.getReader();
    return this.stream;
  }

  /** Reads the whole body. The array may be kept and changed by the caller. */
  async consume() {
    this.used = true;
    if (this.stream) return concat(await collect(this.stream));
    if (this.reader) {
      const chunks = [];
      for (let chunk; (chunk = await this.reader.read()) !== undefined; ) chunks.push(chunk);
      return concat(chunks);
    }
    return this.shared ? this.bytes.slice() : this.bytes;
  }

  /** Returns a second body with the same content. */
  clone() {
    if (this.bytes && !this.stream) {
      this.shared = true;
      const copy = new Body({ bytes: this.bytes });
      copy.shared = true;
      return copy;
    }
    const [mine, other] = this.asStream().tee();
    this.stream = mine;
    this.bytes = this.reader = undefined;
    return new Body({ stream: other });
  }
}

async function collect(stream) {
  const chunks = [];
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return chunks;
    if (!(value instanceof Uint8Array)) {
      const error = new TypeError("a chunk of the body is not a Uint8Array");
      await reader.cancel(error).catch(() => {});
      throw error;
    }
    chunks.push(value);
  }
}

/** Converts what a program gives as a body. Returns the body and the content type that it implies, or null. */
export function bodyOf(value) {
  if (typeof value === "string") return { body: new Body({ bytes: encode(value) }), type: "text/plain;charset=UTF-8" };
  if (value instanceof URLSearchParams) {
    const type = "application/x-www-form-urlencoded;charset=UTF-8";
    return { body: new Body({ bytes: encode(value.toString()) }), type };
  }
  if (value instanceof Blob) {
    const body = new Body({ bytes: bytesOf(value) });
    body.shared = true;
    return { body, type: value.type || null };
  }
  if (value instanceof FormData) {
    const { bytes, boundary } = encodeMultipart(value);
    return { body: new Body({ bytes }), type: `multipart/form-data; boundary=${boundary}` };
  }
  if (value instanceof ReadableStream) {
    if (value.locked || value._disturbed) throw new TypeError("the stream that is given as a body is locked or was read");
    return { body: new Body({ stream: value }), type: null };
  }
  const view = viewOf(value);
  // A copy, because the program may change the array while the body is sent.
  if (view) return { body: new Body({ bytes: view.slice() }), type: null };
  if (typeof value?.[Symbol.asyncIterator] === "function") {
    return { body: new Body({ stream: ReadableStream.from(value) }), type: null };
  }
  return { body: new Body({ bytes: encode(`${value}`) }), type: "text/plain;charset=UTF-8" };
}

/** Adds the members that read the body to a class. `bodyIn(object)` returns its Body or null. */
export function addBodyMembers(constructor, bodyIn) {
  const name = constructor.name;

  async function read(object, method) {
    const body = bodyIn(object);
    if (!body) return new Uint8Array(0);
    if (body.isUsed) throw new TypeError(`${name}.${method}: the body was already read`);
    if (body.isLocked) throw new TypeError(`${name}.${method}: the body is locked by a reader`);
    return body.consume();
  }

  const members = {
    get body() {
      return bodyIn(this)?.asStream() ?? null;
    },
    get bodyUsed() {
      return bodyIn(this)?.isUsed ?? false;
    },
    async arrayBuffer() {
      return exactBuffer(await read(this, "arrayBuffer"));
    },
    async blob() {
      const bytes = await read(this, "blob");
      return new Blob([bytes], { type: this.headers.get("content-type") ?? "" });
    },
    async bytes() {
      return read(this, "bytes");
    },
    async formData() {
      return parseFormData(await read(this, "formData"), this.headers.get("content-type") ?? "");
    },
    async json() {
      return JSON.parse(decode(await read(this, "json")));
    },
    async text() {
      return decode(await read(this, "text"));
    },
  };
  Object.defineProperties(constructor.prototype, Object.getOwnPropertyDescriptors(members));
}
