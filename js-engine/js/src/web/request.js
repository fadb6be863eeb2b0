// Request of the Fetch standard.

import { AbortController, AbortSignal } from "./abort.js";
import { addBodyMembers, bodyOf } from "./body.js";
import { tag } from "./event.js";
import { Headers } from "./headers.js";
import { URL, usv } from "./url.js";

const METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const UPPER_CASE = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"];
const FORBIDDEN = ["CONNECT", "TRACE", "TRACK"];
const REDIRECT = ["follow", "error", "manual"];

export class Request {
  #url;
  #method = "GET";
  #headers;
  #body = null;
  #redirect = "follow";
  #signal;
  /** Settings of browsers, which change nothing here: `mode`, `credentials`, `cache` and others. */
  #settings = {};

  constructor(input, init = undefined) {
    if (arguments.length === 0) throw new TypeError("Request: the argument input is missing");
    const from = input instanceof Request ? input : undefined;
    if (from) {
      this.#url = from.#url;
      this.#method = from.#method;
      this.#redirect = from.#redirect;
      this.#signal = from.#signal;
      this.#settings = from.#settings;
    } else {
      const text = usv(input);
      const url = URL.parse(text);
      if (!url) throw new TypeError(`Failed to parse URL from ${text}`, { cause: invalidUrl(text) });
      if (url.username || url.password) {
        throw new TypeError("Request: the URL contains a user name or a password; use the header Authorization instead");
      }
      this.#url = url;
    }
    init ??= {};
    if (typeof init !== "object" && typeof init !== "function") throw new TypeError("Request: init is not an object");
    if (init.method !== undefined) this.#method = checkedMethod(`${init.method}`);
    if (init.redirect !== undefined) this.#redirect = checkedRedirect(`${init.redirect}`);
    if (init.signal !== undefined) this.#signal = checkedSignal(init.signal);
    this.#headers = new Headers(init.headers === undefined ? from?.headers : init.headers);
    this.#readSettings(init);
    this.#readBody(init.body, from, init.duplex);
  }

  #readSettings(init) {
    for (const name of ["mode", "credentials", "cache", "referrer", "referrerPolicy", "integrity", "keepalive"]) {
      const value = init[name];
      if (value === undefined) continue;
      if (name === "integrity" && value) throw new TypeError("Request: integrity is not available in a handler");
      this.#settings = { ...this.#settings, [name]: value };
    }
  }

  // `duplex` is read although it changes nothing: libraries find out by that whether streams can be sent.
  #readBody(body, from, _duplex) {
    const own = body !== undefined && body !== null;
    const source = own ? undefined : body === null ? null : from?.#body;
    if ((own || source) && (this.#method === "GET" || this.#method === "HEAD")) {
      throw new TypeError(`Request: a request with the method ${this.#method} has no body`);
    }
    if (own) {
      const { body: content, type } = bodyOf(body);
      this.#body = content;
      if (type && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
    } else if (source) {
      if (source.isUsed || source.isLocked) throw new TypeError("Request: the body of the request was already read");
      // The body moves to the new request.
      this.#body = source.bytes && !source.stream ? source.clone() : source;
      if (this.#body === source) from.#body = usedBody();
      else source.used = true;
    }
  }

  get url() { return this.#url.href; }
  get method() { return this.#method; }
  get headers() { return this.#headers; }
  get redirect() { return this.#redirect; }
  get signal() { return (this.#signal ??= new AbortController().signal); }
  get mode() { return this.#settings.mode ?? "cors"; }
  get credentials() { return this.#settings.credentials ?? "same-origin"; }
  get cache() { return this.#settings.cache ?? "default"; }
  get referrer() { return this.#settings.referrer ?? "about:client"; }
  get referrerPolicy() { return this.#settings.referrerPolicy ?? ""; }
  get integrity() { return ""; }
  get keepalive() { return Boolean(this.#settings.keepalive); }
  get destination() { return ""; }
  get duplex() { return "half"; }

  clone() {
    if (this.#body?.isUsed || this.#body?.isLocked) throw new TypeError("Request.clone: the body was already read");
    const copy = new Request(this.#url.href, { headers: this.#headers, signal: this.#signal ?? null });
    copy.#method = this.#method;
    copy.#redirect = this.#redirect;
    copy.#settings = this.#settings;
    copy.#body = this.#body?.clone() ?? null;
    return copy;
  }

  static _bodyOf(request) { return request.#body; }
  static _signalOf(request) { return request.#signal; }
  static _urlOf(request) { return request.#url; }
}
tag(Request, "Request");
addBodyMembers(Request, Request._bodyOf);
export const requestBody = Request._bodyOf;
/** Returns the signal that the program has given, if any. */
export const requestSignal = Request._signalOf;
export const requestUrl = Request._urlOf;
delete Request._bodyOf;
delete Request._signalOf;
delete Request._urlOf;

/** Returns a body that can no longer be read. */
function usedBody() {
  const { body } = bodyOf("");
  body.used = true;
  return body;
}

function checkedMethod(method) {
  if (!METHOD.test(method)) throw new TypeError(`Request: ${JSON.stringify(method)} is not a valid method`);
  const upper = method.toUpperCase();
  if (FORBIDDEN.includes(upper)) throw new TypeError(`Request: the method ${upper} is not available`);
  return UPPER_CASE.includes(upper) ? upper : method;
}

function checkedRedirect(redirect) {
  if (!REDIRECT.includes(redirect)) throw new TypeError(`Request: redirect is ${JSON.stringify(redirect)}, not one of ${REDIRECT.join(", ")}`);
  return redirect;
}

function checkedSignal(signal) {
  if (signal === null) return undefined;
  if (!(signal instanceof AbortSignal)) throw new TypeError("Request: signal is not an AbortSignal");
  return signal;
}

function invalidUrl(input) {
  const error = new TypeError("Invalid URL");
  error.code = "ERR_INVALID_URL";
  error.input = input;
  return error;
}
