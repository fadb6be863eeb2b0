// One call of `fetch` at the host: a request, its body, and the response as it arrives. A redirect is a further request of
// the same call.
//
// The host allows only some exchanges of an event at the same time, and lets further ones wait. A response that is not read
// would keep them waiting, so that its body is then read ahead, into the memory of the handler.

import { native } from "../native.js";
import { whenAborted } from "./abort.js";
import { headersToFlat } from "./headers.js";
import { failed, networkError } from "./network-error.js";

const { http } = native;

/** The exchanges whose response has not been read to its end. */
const unread = new Set();

/** Ends an exchange when the program has dropped its response. */
const dropped = new FinalizationRegistry((exchange) => exchange.finish());

function readAhead() {
  if (http.isQueueing()) for (const exchange of unread) exchange.readAhead();
}

export class Exchange {
  /** The number of the host's exchange, or `undefined` if there is none. */
  #id;
  /** Why the call has ended early: `{ error }` of a body that could not be sent, of an abort, or of the network. */
  #ended;
  /** Rejects the promise that the call waits for. */
  #reject = () => {};
  /** Ends the stream that is being sent. */
  #cancelBody = () => {};
  /** Takes back that an abort of the signal ends this exchange. */
  #forgetSignal;
  /** Chunks of the response that were read and not passed on. */
  #chunks = [];
  /** The promise of the next chunk, while the host is asked for it. */
  #pulling;

  constructor(signal) {
    if (signal) this.#forgetSignal = whenAborted(signal, (reason) => this.#endWith(reason));
  }

  /** Sends a request. Returns the status and the headers of the response, names and values in turn. */
  async send(url, method, headers, body) {
    if (this.#ended) throw this.#ended.error;
    if (url.protocol !== "http:" && url.protocol !== "https:") {
      throw failed(url, `the scheme ${url.protocol} is not available; available are http: and https:`);
    }
    const bytes = body?.bytes;
    const stream = bytes ? undefined : body?.asStream();
    const fields = headersToFlat(headers);
    if (bytes) fields.push("content-length", String(bytes.length));
    else if (!stream && (method === "POST" || method === "PUT")) fields.push("content-length", "0");
    const request = {
      method, scheme: url.protocol.slice(0, -1), authority: url.host, path: url.pathname + url.search, fields, bytes,
      isStream: Boolean(stream),
    };
    const head = this.#wait(url, (done) => { this.#id = http.send(request, done); });
    readAhead();
    if (stream) this.#sendStream(stream);
    return head;
  }

  /** Sends a stream while the response may already arrive. */
  async #sendStream(stream) {
    const id = this.#id;
    if (id === undefined) return;
    const reader = stream.getReader();
    this.#cancelBody = (reason) => reader.cancel(reason).catch(() => {});
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (!(value instanceof Uint8Array)) throw new TypeError("a chunk of the body is not a Uint8Array");
        const isOpen = await new Promise((resolve) => http.write(id, value, (_error, reads) => resolve(reads)));
        // The server may answer without reading the whole body. The response, or its error, is what counts.
        if (!isOpen) return this.#cancelBody();
      }
      http.finish(id);
    } catch (error) {
      this.#endWith(error);
    }
  }

  /** Returns the reader of the body of the response. `encoding` is its compression, which makes it unreadable here. */
  reader(encoding) {
    unread.add(this);
    readAhead();
    const reader = {
      read: async () => {
        if (encoding) {
          this.finish();
          throw new TypeError(`the response is compressed with ${encoding}, which fetch in a handler cannot decompress`);
        }
        return this.#read();
      },
      cancel: () => this.finish(),
    };
    dropped.register(reader, this);
    return reader;
  }

  async #read() {
    for (;;) {
      if (this.#chunks.length > 0) return this.#chunks.shift();
      if (this.#ended) throw this.#ended.error;
      if (this.#id === undefined) return undefined;
      await (this.#pulling ??= this.#pull());
    }
  }

  /** Reads the response into the memory as long as other exchanges wait. */
  async readAhead() {
    while (http.isQueueing() && this.#id !== undefined) await (this.#pulling ??= this.#pull());
  }

  /** Asks the host for the next chunk. */
  async #pull() {
    try {
      const chunk = await this.#wait(undefined, (done) => http.read(this.#id, done));
      if (chunk === undefined) this.finish();
      else this.#chunks.push(chunk);
    } catch (error) {
      this.#ended ??= { error };
      unread.delete(this);
    }
    this.#pulling = undefined;
  }

  /** Ends the request; the call may send another one. */
  end() {
    if (this.#id !== undefined) http.close(this.#id);
    this.#id = undefined;
  }

  /** Ends the call. */
  finish() {
    this.end();
    unread.delete(this);
    this.#forgetSignal?.();
  }

  #endWith(error) {
    if (this.#ended) return;
    this.#ended = { error };
    this.#chunks = [];
    this.end();
    unread.delete(this);
    this.#cancelBody(error);
    this.#reject(error);
  }

  /** Calls `begin` with a callback of the host, and returns a promise of what the host passes to it. */
  #wait(url, begin) {
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      begin((error, value) => {
        if (error === undefined || error === null) return resolve(value);
        this.end();
        reject(networkError(url, error));
      });
    });
  }
}
