// What a test uses: a host, and the peers that are connected to it.

import { bind } from "../engine/jackfield/bind.js";
import { setTimeoutOfEvents } from "../engine/jackfield/lambda.js";
import { Routes } from "../engine/jackfield/plugin.js";
import { Double } from "./double.js";
import { queryFields } from "./parsing.js";
import { text } from "./text.js";

/** The default of `timeout` in the manifest, for `getRemainingTimeInMillis`. */
setTimeoutOfEvents(29_000);

/** Why a peer was not admitted. */
export class ConnectError extends Error {
  name = "ConnectError";
  constructor({ rejected, failed }) {
    super(failed ? `the handler failed: ${failed.message ?? failed}` : `the handler rejected the peer with ${rejected.statusCode}`, { cause: failed });
    /** The HTTP status that the peer receives. */
    this.statusCode = rejected?.statusCode ?? 502;
    /** The handler's response; undefined if it failed. */
    this.response = rejected;
  }
}

export class Host {
  #double = new Double();
  #routes;

  constructor({ routes } = {}) {
    this.#routes = routes;
  }

  async connect(handler, query = "", options = {}) {
    const outcome = await this.#double.connect(this.#upgrade(handler, query, options, "route-handler"));
    if (outcome.id === undefined) throw new ConnectError(outcome);
    return new Peer(this.#double, outcome.id, outcome.response);
  }

  async authorize(handler, query = "", options = {}) {
    return this.#double.authorize(this.#upgrade(handler, query, options, "request-authorizer"));
  }

  #upgrade(handler, query, { headers = {}, sourceIp = "127.0.0.1", authorizer = {} }, world) {
    const pairs = (typeof headers[Symbol.iterator] === "function" ? [...headers] : Object.entries(headers)).map((pair) => pair.map(text));
    const routes = handler instanceof Routes ? Object.keys(handler.functions).filter((key) => !key.startsWith("$")) : undefined;
    return {
      bound: bind({ name: "the test", handler: "handler", world }, { handler }),
      routes: this.#routes ?? routes,
      sourceIp,
      userAgent: pairs.find(([name]) => name.toLowerCase() === "user-agent")?.[1],
      authorizer: Object.entries(authorizer).map(([name, value]) => [text(name), text(String(value))]),
      event: { kind: "connect", headers: pairs, query: queryFields(text(query)) },
    };
  }

  postsTo(peer) {
    return [...this.#connection(peer).posts];
  }

  takePostsTo(peer) {
    return this.#connection(peer).posts.splice(0);
  }

  failPostsTo(peer, type) {
    const number = ["GoneError", "PayloadTooLargeError", "LimitExceededError", "ForbiddenError"].indexOf(type.name);
    if (number < 0) throw new TypeError("failPostsTo expects a class of errors such as LimitExceededError");
    this.#connection(peer).postError = number + 1;
  }

  addBucket(name, { size, keys } = {}) {
    this.#double.addBucket(text(name), size, keys);
  }

  setConfig(key, value) {
    this.#double.config.set(text(key), text(value));
  }

  setStageVariable(name, value) {
    this.#double.stageVariables.set(text(name), text(value));
  }

  advance(milliseconds) {
    this.#double.nowMs += milliseconds;
  }

  logs() {
    return [...this.#double.logs];
  }

  failures() {
    return [...this.#double.failures];
  }

  run(work) {
    return this.#double.run(work);
  }

  #connection(peer) {
    return this.#double.connections.get(peer.id);
  }
}

/** The peer of a connection that was admitted. */
export class Peer {
  #double;
  #id;
  #response;
  constructor(double, id, response) {
    this.#double = double;
    this.#id = id;
    this.#response = response;
  }

  get id() {
    return this.#id;
  }

  get response() {
    return this.#response;
  }

  async send(body) {
    return this.#double.message(this.#id, undefined, message(body));
  }

  async sendTo(routeKey, body) {
    return this.#double.message(this.#id, text(routeKey), message(body));
  }

  async close(code = 1000, reason = "") {
    await this.#double.close(this.#id, { code, reason: text(reason) });
  }

  get isOpen() {
    return this.closeFrame === undefined;
  }

  get closeFrame() {
    return this.#double.connections.get(this.#id).closed;
  }
}

/** A message as a peer can send it. */
function message(body) {
  if (typeof body === "string") return text(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body.slice(0));
  if (ArrayBuffer.isView(body)) return Uint8Array.from(new Uint8Array(body.buffer, body.byteOffset, body.byteLength));
  throw new TypeError(`a message is a string or bytes, not ${body === null ? "null" : typeof body}; use JSON.stringify for JSON`);
}
