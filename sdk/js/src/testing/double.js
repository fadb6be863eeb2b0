// The state of the test double, and how it handles events.

import { AsyncLocalStorage } from "node:async_hooks";

import { authorizerEvent, handlerEvent } from "./event-json.js";
import { BUCKET_BYTES_MAX, BUCKET_KEYS_MAX, EVENT_HOST_CALLS, FRAME_BYTES_MAX, GRANT_BYTES_MAX, MESSAGE_BYTES_MAX } from "./limits.js";
import { selectRoute } from "./parsing.js";
import { bytesIn, compare, text } from "./text.js";

/** The initial time of the clock, in November 2023. */
const START_MS = 1_700_000_000_000;

/** The numbers of the errors of `connections`, as the engine has them. */
export const GONE = 1;
export const PAYLOAD_TOO_LARGE = 2;
export const LIMIT_EXCEEDED = 3;

const KINDS = ["connect", "message", "disconnect"];

/** The event that is handled, for the host functions that its handler calls. */
const running = new AsyncLocalStorage();

/** The test double that was made last, for host functions that a test calls itself. */
let newest;

/** Thrown where the real host traps. The event fails even if its handler catches this. */
export class Trap extends Error {
  name = "Trap";
}

/** Returns the event that is handled. Outside of events there is none. */
export function currentEvent() {
  return running.getStore();
}

export function currentDouble() {
  const double = currentEvent()?.double ?? newest;
  if (double === undefined) {
    throw new Error('in Node.js the functions of "jackfield" need a test double of the host: create one with new Host() of "jackfield/testing"');
  }
  return double;
}

/** Fails the event in a way that its handler cannot prevent. */
export function trap(message) {
  const error = new Trap(message);
  const event = currentEvent();
  if (event !== undefined) event.trap ??= error;
  throw error;
}

/** Counts host calls against the limit of the event. Returns false if the limit does not allow them. */
export function countHostCalls(calls) {
  const event = currentEvent();
  if (event === undefined) return true;
  if (event.hostCallsLeft < calls) return false;
  event.hostCallsLeft -= calls;
  return true;
}

/** Counts one host call of a function that cannot return the error of the limit. */
export function countHostCall() {
  if (!countHostCalls(1)) trap(`the event made more than ${EVENT_HOST_CALLS} host calls`);
}

export class Double {
  nowMs = START_MS;
  /** Of each connection, closed ones included. */
  connections = new Map();
  /** The attributes of each live connection, sorted and without duplicates. */
  rows = new Map();
  buckets = new Map();
  config = new Map();
  stageVariables = new Map();
  logs = [];
  failures = [];
  #idsIssued = 0;
  /** The connections that a handler has deleted and whose `$disconnect` has not run yet. */
  #deleted = [];

  constructor() {
    newest = this;
  }

  /** Calls `work`, whose host functions are those of this test double. */
  run(work) {
    return running.run({ double: this, hostCallsLeft: Number.POSITIVE_INFINITY, handles: [] }, work);
  }

  // ---- events ------------------------------------------------------------------------------

  /** Returns `{ id, response }` of an admitted peer, else `{ rejected }`, a response, or `{ failed }`, an error. */
  async connect(upgrade) {
    refuseInEvent();
    const [id, connection] = this.#newConnection(upgrade);
    this.rows.set(id, []);
    const outcome = await this.#handle(id, "$connect", upgrade.event).then(
      (response) => (response.statusCode <= 299 ? { id, response } : { rejected: response }),
      (failed) => ({ failed }),
    );
    if (outcome.id === undefined) {
      this.rows.delete(id);
      this.connections.delete(id);
    } else {
      connection.state = "open";
    }
    await this.#disconnectDeleted();
    return outcome;
  }

  /** Calls an authorizer for a peer whose connection is not open and has no row. */
  async authorize(upgrade) {
    refuseInEvent();
    const [id] = this.#newConnection(upgrade);
    try {
      const [kind, principalId, fields] = await this.#invoke(id, "$connect", upgrade.event, true);
      if (kind !== "allow") return kind;
      const context = {};
      for (let index = 0; index < fields.length; index += 2) context[text(fields[index])] = text(fields[index + 1]);
      return checkGrant({ principalId: text(principalId), context });
    } finally {
      this.connections.delete(id);
      await this.#disconnectDeleted();
    }
  }

  /** Handles a message after the earlier ones of the same connection. */
  message(id, routeKey, body) {
    refuseInEvent();
    const connection = this.connections.get(id);
    const result = connection.last.then(() => this.#message(id, connection, routeKey, body));
    connection.last = result.catch(() => {});
    return result;
  }

  async #message(id, connection, routeKey, body) {
    if (connection.closed !== undefined) throw new Error("the connection is closed");
    if (bytesIn(body) > MESSAGE_BYTES_MAX) {
      const reason = `a message has at most ${MESSAGE_BYTES_MAX} bytes, a frame ${FRAME_BYTES_MAX}`;
      await this.#close(id, { code: 1009, reason });
      throw new Error(`the message has more than ${MESSAGE_BYTES_MAX} bytes, so the connection is closed`);
    }
    connection.lastActiveAt = this.nowMs;
    const event = { kind: "message", body, messageId: this.#nextId() };
    try {
      return await this.#handle(id, routeKey ?? selectRoute(body, connection.routes), event);
    } finally {
      await this.#disconnectDeleted();
    }
  }

  close(id, frame) {
    refuseInEvent();
    const connection = this.connections.get(id);
    const result = connection.last.then(() => this.#close(id, frame));
    connection.last = result.catch(() => {});
    return result;
  }

  async #close(id, frame) {
    const connection = this.connections.get(id);
    if (connection.closed !== undefined) return;
    connection.closed = frame;
    try {
      await this.#disconnect(id);
    } finally {
      await this.#disconnectDeleted();
    }
  }

  /** Runs `$disconnect` of a closed connection, then removes its row. */
  async #disconnect(id) {
    const { code, reason } = this.connections.get(id).closed;
    try {
      await this.#handle(id, "$disconnect", { kind: "disconnect", statusCode: code, reason });
    } finally {
      this.rows.delete(id);
    }
  }

  /** As on the real host, `$disconnect` runs after the handler that has deleted the connection. */
  async #disconnectDeleted() {
    for (let id = this.#deleted.shift(); id !== undefined; id = this.#deleted.shift()) {
      await this.#disconnect(id).catch((error) => this.failures.push(error));
    }
  }

  #newConnection({ bound, routes, sourceIp, userAgent, authorizer }) {
    const id = this.#nextId();
    const connection = {
      bound,
      routes,
      sourceIp,
      userAgent,
      authorizer,
      connectedAt: this.nowMs,
      lastActiveAt: this.nowMs,
      state: "connecting",
      closed: undefined,
      posts: [],
      postError: undefined,
      /** Settles when all events that were begun have ended. */
      last: Promise.resolve(),
    };
    this.connections.set(id, connection);
    return [id, connection];
  }

  async #handle(id, routeKey, event) {
    return checkResponse(await this.#invoke(id, routeKey, event, false));
  }

  /** Calls the handler. Returns its result as the engine converts it. */
  async #invoke(id, routeKey, event, isAuthorizer) {
    const { bound, connectedAt } = this.connections.get(id);
    const request = { connectionId: id, routeKey, requestId: this.#nextId(), requestTime: this.nowMs, connectedAt };
    const current = { double: this, request, event, isAuthorizer, hostCallsLeft: EVENT_HOST_CALLS, handles: [], trap: undefined };
    const [dispatch, respond, allowsPlain] = bound;
    const [first, second] = parameters(event);
    try {
      return await running.run(current, async () => {
        const result = await dispatch(
          KINDS.indexOf(event.kind), id, routeKey, request.requestId, request.requestTime, connectedAt, first, second,
        );
        if (current.trap !== undefined) throw current.trap;
        const isPlain = result === undefined || result === null || typeof result === "string" || result instanceof Uint8Array;
        return allowsPlain && isPlain ? [200, [], result] : respond(result);
      });
    } catch (error) {
      throw current.trap ?? error;
    }
  }

  // ---- host functions ------------------------------------------------------------------------

  connectionOf({ request }) {
    const { sourceIp, userAgent, authorizer } = this.connections.get(request.connectionId);
    const stageVariables = [...this.stageVariables].sort(([one], [other]) => compare(one, other));
    return { apiId: "test", stage: "test", domainName: "localhost", sourceIp, userAgent, authorizer, stageVariables };
  }

  eventJson(current) {
    const write = current.isAuthorizer ? authorizerEvent : handlerEvent;
    return write(current.request, this.connectionOf(current), current.event);
  }

  /** Returns a connection that is open; undefined if there is none. */
  open(id) {
    const connection = this.connections.get(id);
    return connection?.state === "open" && connection.closed === undefined ? connection : undefined;
  }

  /** Queues a message. Returns 0 or the number of an error. */
  post(id, body) {
    const connection = this.open(id);
    if (connection === undefined) return GONE;
    if (connection.postError !== undefined) return connection.postError;
    connection.lastActiveAt = this.nowMs;
    connection.posts.push(typeof body === "string" ? body : Uint8Array.from(body));
    return 0;
  }

  delete(id, frame) {
    const connection = this.open(id);
    if (connection === undefined) return GONE;
    connection.closed = frame;
    this.#deleted.push(id);
    return 0;
  }

  addBucket(name, size = BUCKET_BYTES_MAX, keys = BUCKET_KEYS_MAX) {
    const pairs = this.buckets.get(name)?.pairs ?? new Map();
    this.buckets.set(name, { pairs, bytesMax: size, keysMax: keys });
  }

  /** Returns a new id in the format of the real ones: fifteen characters and `=`. */
  #nextId() {
    this.#idsIssued++;
    return `${String(this.#idsIssued).padStart(15, "0")}=`;
  }
}

function refuseInEvent() {
  if (currentEvent()?.request !== undefined) throw new Error("a handler must not call the methods of a Host or a Peer of the test");
}

/** What the engine passes for each kind of event. */
function parameters(event) {
  if (event.kind === "connect") return [event.headers, event.query];
  if (event.kind === "message") return [event.body, event.messageId];
  return [event.statusCode, event.reason];
}

/** Returns the response. Throws the failure that the real host logs for one that it cannot use. */
function checkResponse([statusCode, fields, body]) {
  if (statusCode < 200 || statusCode > 599) throw new Error(`the handler returned status ${statusCode}, expected 200 to 599`);
  const payload = body === undefined || body === null ? undefined : typeof body === "string" ? text(body) : Uint8Array.from(body);
  if (payload !== undefined && bytesIn(payload) > MESSAGE_BYTES_MAX) {
    throw new Error(`the handler returned a body of ${bytesIn(payload)} bytes; a message has at most ${MESSAGE_BYTES_MAX}`);
  }
  const headers = [];
  for (let index = 0; index < fields.length; index += 2) headers.push([fields[index], fields[index + 1]]);
  return { statusCode, headers, body: payload };
}

/** Returns the grant. Throws if it grants too much. */
function checkGrant(grant) {
  const values = Object.entries(grant.context).filter(([name]) => !["principalId", "usageIdentifierKey"].includes(name));
  const bytes = values.flat().reduce((sum, value) => sum + bytesIn(value), bytesIn("principalId") + bytesIn(grant.principalId));
  if (bytes > GRANT_BYTES_MAX) throw new Error(`the authorizer granted ${bytes} bytes; the maximum is ${GRANT_BYTES_MAX}`);
  return grant;
}
