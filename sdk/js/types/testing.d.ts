// A test double of the host: handlers run in Node.js, and no server has to be started.

import type { ConnectionError, Handler } from "./index.js";

/** A response of a handler. */
export interface HandlerResponse {
  statusCode: number;
  headers: [name: string, value: string][];
  body: string | Uint8Array | undefined;
}

/** The default export of a handler's file, or a function in the style of Lambda. */
export type AnyHandler = Handler | ((event: any, context: any, callback: any) => unknown);

/** What an upgrade request has besides its query string. */
export interface UpgradeOptions {
  headers?: Record<string, string> | Iterable<[name: string, value: string]>;
  /** The address of the peer; 127.0.0.1 by default. */
  sourceIp?: string;
  /** The values that an authorizer granted. */
  authorizer?: Record<string, string | number | boolean>;
}

/** The size in bytes and the number of keys that a bucket may have. */
export interface BucketLimits {
  size?: number;
  keys?: number;
}

export interface LogLine {
  level: "trace" | "debug" | "info" | "warn" | "error" | "critical";
  message: string;
}

/**
 * The test double of the host. Handlers that it calls use it; calls that a test itself makes of functions of "jackfield"
 * use the host that was made last.
 */
export class Host {
  /**
   * `routes` are the route keys of the manifest besides `$connect`, `$disconnect` and `$default`. By default they are those
   * of `routes({ ... })`, and any action is a route of other handlers.
   */
  constructor(options?: { routes?: string[] });
  /** Connects a peer with a query string such as `?userId=A`. Throws a `ConnectError` if the peer is not admitted. */
  connect(handler: AnyHandler, query?: string, options?: UpgradeOptions): Promise<Peer>;
  /** Returns the decision of an authorizer about a peer, which is not connected. */
  authorize(
    handler: AnyHandler,
    query?: string,
    options?: UpgradeOptions,
  ): Promise<{ principalId: string; context: Record<string, string> } | "deny" | "unauthorized">;
  /** Returns the messages that were posted to the peer so far. Responses of its handler are not among them. */
  postsTo(peer: Peer): (string | Uint8Array)[];
  /** Returns and removes the messages that were posted to the peer so far. */
  takePostsTo(peer: Peer): (string | Uint8Array)[];
  /** Makes every later post to the peer fail, for example with `LimitExceededError`. */
  failPostsTo(peer: Peer, type: new (...args: any[]) => ConnectionError): void;
  /** Grants a bucket, like the key `buckets` of the manifest. */
  addBucket(name: string, limits?: BucketLimits): void;
  /** Sets a value of the handler's `config`. */
  setConfig(key: string, value: string): void;
  setStageVariable(name: string, value: string): void;
  /** Advances the clock of the host, which does not run by itself. `Date` and timers are those of Node.js. */
  advance(milliseconds: number): void;
  /** Returns the lines that handlers have logged by `log`. Lines of `console` are printed. */
  logs(): LogLine[];
  /** Returns the errors of those `$disconnect` handlers that ran because a handler deleted a connection. */
  failures(): unknown[];
  /** Calls a function whose calls of "jackfield" use this host, although another one was made later. */
  run<T>(work: () => T): T;
}

/** The peer of a connection that was admitted. */
export class Peer {
  private constructor();
  /** The id of the connection. */
  readonly id: string;
  /** The response of `$connect`. */
  readonly response: HandlerResponse;
  /**
   * Sends a message and returns the handler's response. `$request.body.action` selects the route. Throws the error of the
   * handler, or that the connection is closed.
   */
  send(body: string | Uint8Array): Promise<HandlerResponse>;
  /** Sends a message to this route, whatever the message contains. */
  sendTo(routeKey: string, body: string | Uint8Array): Promise<HandlerResponse>;
  /** Closes the connection and runs its `$disconnect`, whose error it throws. */
  close(code?: number, reason?: string): Promise<void>;
  readonly isOpen: boolean;
  /** The code and reason with which either side has closed the connection. */
  readonly closeFrame: { code: number; reason: string } | undefined;
}

/** Why a peer was not admitted. */
export class ConnectError extends Error {
  private constructor();
  /** The HTTP status that the peer receives: the one of the response, or 502 if the handler failed. */
  readonly statusCode: number;
  /** The response of the handler. If it failed instead, `cause` is its error. */
  readonly response: HandlerResponse | undefined;
}
