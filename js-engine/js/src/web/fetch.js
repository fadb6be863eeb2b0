// `fetch` of the Fetch standard over the host's HTTP client: redirects, aborts, bodies, and errors that name the reason.

import { native } from "../native.js";
import { decode, encode } from "./bytes.js";
import { Exchange } from "./exchange.js";
import { Headers } from "./headers.js";
import { failed } from "./network-error.js";
import { Request, requestBody, requestSignal, requestUrl } from "./request.js";
import { Response, received } from "./response.js";
import { URL } from "./url.js";

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
  const exchange = new Exchange(signal);
  try {
    return await follow(request, exchange);
  } catch (error) {
    exchange.finish();
    throw error;
  }
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
    const location = REDIRECT_STATUSES.includes(status) ? headerOf(fields, "location") : undefined;
    if (location === undefined || request.redirect === "manual") {
      const encoding = request.headers.has("accept-encoding") ? undefined : headerOf(fields, "content-encoding");
      const reader = exchange.reader(encoding === "identity" ? undefined : encoding);
      return received({ url: withoutFragment(url), redirected: redirects > 0, status, headers: fields, reader });
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

function headerOf(flat, name) {
  for (let index = 0; index + 1 < flat.length; index += 2) {
    if (flat[index].toLowerCase() === name) return flat[index + 1];
  }
  return undefined;
}

function withoutFragment(url) {
  return url.hash ? url.href.slice(0, url.href.indexOf("#")) : url.href;
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
