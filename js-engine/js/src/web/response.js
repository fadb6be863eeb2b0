// Response of the Fetch standard.

import { Body, addBodyMembers, bodyOf } from "./body.js";
import { encode } from "./bytes.js";
import { tag } from "./event.js";
import { Headers, headersOfFlat, makeImmutable } from "./headers.js";
import { usv, URL } from "./url.js";

/** Statuses whose responses have no body. */
const NO_BODY = [101, 103, 204, 205, 304];
const REDIRECTS = [301, 302, 303, 307, 308];

export class Response {
  #status = 200;
  #statusText = "";
  #headers;
  #body = null;
  #url = "";
  #type = "default";
  #redirected = false;

  constructor(body = null, init = undefined) {
    const status = init?.status === undefined ? 200 : Number(init.status);
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw new RangeError(`Response: the status ${init.status} is not between 200 and 599`);
    }
    this.#status = status;
    this.#statusText = init?.statusText === undefined ? "" : `${init.statusText}`;
    if (/[^\t\x20-\x7e\x80-\xff]/.test(this.#statusText)) throw new TypeError("Response: the status text is not valid");
    this.#headers = new Headers(init?.headers);
    if (body === null || body === undefined) return;
    if (NO_BODY.includes(status)) throw new TypeError(`Response: a response with the status ${status} has no body`);
    const { body: content, type } = bodyOf(body);
    this.#body = content;
    if (type && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
  }

  static error() {
    const response = new Response();
    response.#status = 0;
    response.#type = "error";
    makeImmutable(response.#headers);
    return response;
  }

  static json(data, init = undefined) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Response.json: the value cannot be converted to JSON");
    const response = new Response(encode(text), init);
    if (!response.#headers.has("content-type")) response.#headers.set("content-type", "application/json");
    return response;
  }

  static redirect(url, status = 302) {
    const { href } = new URL(usv(url));
    if (!REDIRECTS.includes(Number(status))) throw new RangeError(`Response.redirect: ${status} is no status of a redirect`);
    const response = new Response(null, { status: Number(status), headers: { location: href } });
    makeImmutable(response.#headers);
    return response;
  }

  get type() { return this.#type; }
  get url() { return this.#url; }
  get redirected() { return this.#redirected; }
  get status() { return this.#status; }
  get ok() { return this.#status >= 200 && this.#status <= 299; }
  get statusText() { return this.#statusText; }
  get headers() { return this.#headers; }

  clone() {
    if (this.#body?.isUsed || this.#body?.isLocked) throw new TypeError("Response.clone: the body was already read");
    const copy = new Response();
    copy.#status = this.#status;
    copy.#statusText = this.#statusText;
    copy.#headers = new Headers(this.#headers);
    copy.#url = this.#url;
    copy.#type = this.#type;
    copy.#redirected = this.#redirected;
    copy.#body = this.#body?.clone() ?? null;
    return copy;
  }

  static _bodyOf(response) { return response.#body; }

  /** Makes a response of what the network returned. `reader` is the reader of its body. */
  static _received({ url, redirected, status, headers, reader }) {
    const response = new Response();
    response.#status = status;
    response.#statusText = STATUS_TEXTS[status] ?? "";
    response.#headers = makeImmutable(headersOfFlat(headers));
    response.#url = url;
    response.#type = "basic";
    response.#redirected = redirected;
    if (NO_BODY.includes(status)) reader.cancel();
    else response.#body = new Body({ reader });
    return response;
  }
}
tag(Response, "Response");
addBodyMembers(Response, Response._bodyOf);
export const received = Response._received;
delete Response._bodyOf;
delete Response._received;

/** The reason phrases of HTTP; the host passes on numbers only. */
const STATUS_TEXTS = Object.fromEntries(
  ("200 OK|201 Created|202 Accepted|203 Non-Authoritative Information|204 No Content|205 Reset Content|"
    + "206 Partial Content|207 Multi-Status|208 Already Reported|226 IM Used|300 Multiple Choices|301 Moved Permanently|"
    + "302 Found|303 See Other|304 Not Modified|305 Use Proxy|307 Temporary Redirect|308 Permanent Redirect|"
    + "400 Bad Request|401 Unauthorized|402 Payment Required|403 Forbidden|404 Not Found|405 Method Not Allowed|"
    + "406 Not Acceptable|407 Proxy Authentication Required|408 Request Timeout|409 Conflict|410 Gone|"
    + "411 Length Required|412 Precondition Failed|413 Payload Too Large|414 URI Too Long|415 Unsupported Media Type|"
    + "416 Range Not Satisfiable|417 Expectation Failed|418 I'm a Teapot|421 Misdirected Request|"
    + "422 Unprocessable Entity|423 Locked|424 Failed Dependency|425 Too Early|426 Upgrade Required|"
    + "428 Precondition Required|429 Too Many Requests|431 Request Header Fields Too Large|"
    + "451 Unavailable For Legal Reasons|500 Internal Server Error|501 Not Implemented|502 Bad Gateway|"
    + "503 Service Unavailable|504 Gateway Timeout|505 HTTP Version Not Supported|506 Variant Also Negotiates|"
    + "507 Insufficient Storage|508 Loop Detected|510 Not Extended|511 Network Authentication Required")
    .split("|").map((line) => [line.slice(0, 3), line.slice(4)]),
);
