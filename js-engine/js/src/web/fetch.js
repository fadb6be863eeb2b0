// `fetch` of the Fetch standard over the host's HTTP client: redirects, aborts, bodies, and errors that name the reason.

import { native } from "../native.js";
import { whenAborted } from "./abort.js";
import { decode, encode } from "./bytes.js";
import { Headers, headersToFlat } from "./headers.js";
import { Request, requestBody, requestSignal, requestUrl } from "./request.js";
import { networkError } from "./network-error.js";
import { Response, received } from "./response.js";
import { URL } from "./url.js";

const { http } = native;

/** The Fetch standard's limit of redirects. */
const REDIRECTS_MAX = 20;
const REDIRECT_STATUSES = [301, 302, 303, 307, 308];

/** Headers that belong to the connection, which the host sets. A program cannot set them, as in a browser. */
const OF_CONNECTION = ["connection", "content-length", "host", "http2-settings", "keep-alive", "proxy-authenticate",
  "proxy-authorization", "proxy-connection", "transfer-encoding", "upgrade"];
/** Headers that do not go to another origin with a redirect. */
const OF_ORIGIN = ["authorization", "cookie"];
/** Headers that describe the body. A redirect that drops the body drops them. */
const OF_BODY = ["content-encoding", "content-language", "content-location", "content-type"];

const USER_AGENT = "jackfield";

export function fetch(input, init = undefined) {
  if (native.loading()) {
    throw new Error("fetch was called while the file was loaded; the top level of a file runs once for each save, and all "
      + "instances start from what it leaves, so fetch works only in a handler: move the call into the handler");
  }
  return start(input, init);
}

async function start(input, init) {
  const request = new Request(input, init);
  const signal = requestSignal(request);
  signal?.throwIfAborted();
  const url = requestUrl(request);
  if (url.protocol === "data:") return fetchData(url);
  return follow(request, new Exchange(signal));
}

/** Sends a request, and further ones as long as the server redirects. */
async function follow(request, exchange) {
  let url = requestUrl(request);
  let { method } = request;
  const headers = new Headers(request.headers);
  let body = requestBody(request);
  if (body) body.used = true;
  addDefaults(headers);
  for (let redirects = 0; ; redirects++) {
    const { status, headers: fields } = await exchange.send(url, method, headers, body);
    const location = REDIRECT_STATUSES.includes(status) ? fieldOf(fields, "location") : undefined;
    if (location === undefined || request.redirect === "manual") {
      return received({ url: withoutFragment(url), redirected: redirects > 0, status, headers: fields, reader: exchange.reader(fields, request.headers) });
    }
    exchange.end();
    if (request.redirect === "error") throw failed(url, "the server redirects, but the request has redirect: \"error\"");
    if (redirects === REDIRECTS_MAX) throw failed(url, `the server has redirected more than ${REDIRECTS_MAX} times`);
    const next = redirectTarget(url, location);
    if (dropsBody(status, method)) {
      method = method === "HEAD" ? "HEAD" : "GET";
      body = null;
      for (const name of OF_BODY) headers.delete(name);
    } else if (body && !body.bytes) {
      throw failed(url, `the server redirects with the status ${status}, but a stream cannot be sent a second time`);
    }
    if (next.origin !== url.origin) for (const name of OF_ORIGIN) headers.delete(name);
    url = next;
  }
}

function addDefaults(headers) {
  if (!headers.has("accept")) headers.set("accept", "*/*");
  if (!headers.has("user-agent")) headers.set("user-agent", USER_AGENT);
  // Nothing here can decompress a response.
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  for (const name of OF_CONNECTION) headers.delete(name);
}

function dropsBody(status, method) {
  if (status === 303) return method !== "GET" && method !== "HEAD";
  return (status === 301 || status === 302) && method === "POST";
}

function redirectTarget(url, location) {
  const next = URL.parse(location, url.href);
  if (!next) throw failed(url, "the server redirects to something that is not a URL");
  if (next.protocol !== "http:" && next.protocol !== "https:") {
    throw failed(url, `the server redirects to a URL with the scheme ${next.protocol}`);
  }
  if (!next.hash) next.hash = url.hash;
  return next;
}

/** One request after the other that the host sends for one call of `fetch`. */
class Exchange {
  /** The number of the host's exchange, or `undefined` if there is none. */
  #id;
  /** Why the call has ended early: `{ error }` of a body that could not be sent, or of an abort. */
  #ended;
  /** Rejects the promise that the call waits for. */
  #reject = () => {};
  /** Ends the stream that is being sent. */
  #cancelBody = () => {};

  /** Takes back that an abort of the signal ends this exchange. */
  #forgetSignal;

  constructor(signal) {
    if (signal) this.#forgetSignal = whenAborted(signal, (reason) => this.#endWith(reason));
  }

  /** Sends a request. Returns the status and the headers of the response. */
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
    const head = this.#wait(url, (done) => {
      const path = url.pathname + url.search;
      const isStream = Boolean(stream);
      this.#id = http.send({ method, scheme: url.protocol.slice(0, -1), authority: url.host, path, fields, bytes, isStream }, done);
    });
    if (stream) this.#sendStream(stream, url);
    return head;
  }

  /** Sends a stream while the response may already arrive. */
  async #sendStream(stream, url) {
    const id = this.#id;
    if (id === undefined) return;
    const reader = stream.getReader();
    this.#cancelBody = (reason) => reader.cancel(reason).catch(() => {});
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (!(value instanceof Uint8Array)) throw new TypeError("a chunk of the body is not a Uint8Array");
        const open = await new Promise((resolve) => http.write(id, value, (_error, reads) => resolve(reads)));
        // The server may answer without reading the whole body. The response, or its error, is what counts.
        if (!open) return this.#cancelBody();
      }
      http.finish(id);
    } catch (error) {
      this.#endWith(error);
    }
  }

  /** Returns the reader of the body of the response. */
  reader(fields, requested) {
    const encoding = fieldOf(fields, "content-encoding");
    const compressed = encoding && encoding !== "identity" && !requested.has("accept-encoding");
    return {
      read: async () => {
        if (this.#ended) throw this.#ended.error;
        if (this.#id === undefined) return undefined;
        if (compressed) {
          this.end();
          throw new TypeError(`the response is compressed with ${encoding}, which fetch in a handler cannot decompress`);
        }
        const chunk = await this.#wait(undefined, (done) => http.read(this.#id, done));
        if (chunk === undefined) this.#finish();
        return chunk;
      },
      cancel: () => this.#finish(),
    };
  }

  /** Ends the host's exchange. */
  end() {
    if (this.#id !== undefined) http.close(this.#id);
    this.#id = undefined;
  }

  #finish() {
    this.end();
    this.#forgetSignal?.();
  }

  #endWith(error) {
    if (this.#ended) return;
    this.#ended = { error };
    this.end();
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
        reject(this.#ended ? this.#ended.error : networkError(url, error));
      });
    });
  }
}

function fieldOf(flat, name) {
  for (let index = 0; index + 1 < flat.length; index += 2) {
    if (flat[index].toLowerCase() === name) return flat[index + 1];
  }
  return undefined;
}

function withoutFragment(url) {
  return url.hash ? url.href.slice(0, url.href.indexOf("#")) : url.href;
}

// The message has the origin only: a path and a query may contain secrets.
function failed(url, reason) {
  return new TypeError(`fetch ${url.origin} failed: ${reason}`);
}

/** Returns the content of a URL `data:TYPE;base64,CONTENT`. */
function fetchData(url) {
  const text = url.href.slice("data:".length, url.href.length - url.hash.length);
  const comma = text.indexOf(",");
  if (comma < 0) throw new TypeError("fetch failed: the URL data: has no comma");
  const base64 = /;\s*base64\s*$/i.exec(text.slice(0, comma));
  let type = base64 ? text.slice(0, base64.index) : text.slice(0, comma);
  if (type === "" || type.startsWith(";")) type = `text/plain${type || ";charset=US-ASCII"}`;
  const content = percentDecoded(text.slice(comma + 1));
  const bytes = base64 ? Uint8Array.from(atob(decode(content)), (character) => character.charCodeAt(0)) : content;
  return new Response(bytes, { headers: { "content-type": type } });
}

function percentDecoded(text) {
  const bytes = encode(text);
  const decoded = [];
  for (let index = 0; index < bytes.length; index++) {
    const hex = bytes[index] === 0x25 ? /^[0-9a-f]{2}/i.exec(text.slice(index + 1, index + 3)) : null;
    decoded.push(hex ? parseInt(hex[0], 16) : bytes[index]);
    if (hex) index += 2;
  }
  return new Uint8Array(decoded);
}
