// The types of the module "jackfield". On a server the host provides the module; in Node.js it needs a test double of the
// host, which "jackfield/testing" has.

/** What a function of a plugin may return: nothing, the body of a response, or a whole one. */
export type Result = void | string | Uint8Array | Response;

export interface Response {
  /**
   * On `$connect`, a status from 200 to 299 admits the peer, and any other status rejects the peer with that status.
   * The default is 200.
   */
  statusCode?: number;
  headers?: Record<string, string | string[]> | Headers | Iterable<[string, string]>;
  /** Sent to the peer if the route has a route response. */
  body?: string | Uint8Array | null;
}

/** The identity of the peer. */
export interface Identity {
  /** The source address of the upgrade request. */
  sourceIp: string;
  /** The `User-Agent` header of the upgrade request. */
  userAgent?: string;
}

/** The context of an event. Times are milliseconds since the Unix epoch. */
export interface Context {
  readonly connectionId: string;
  /** The route that was selected. */
  readonly routeKey: string;
  /** Identifies this event, also in the host's log and in error frames. */
  readonly requestId: string;
  /** The time at which the event arrived. */
  readonly requestTime: number;
  /** The time at which the upgrade request arrived. */
  readonly connectedAt: number;
  /** The id of the API in the manifest. */
  readonly apiId: string;
  /** The path of the API. */
  readonly stage: string;
  /** The `Host` of the upgrade request. */
  readonly domainName: string;
  readonly identity: Identity;
  /** The values that the authorizer granted; empty if there is no authorizer. */
  readonly authorizer: Record<string, string>;
  readonly stageVariables: Record<string, string>;
}

/** `$connect`: the upgrade request, which waits for the response. */
export interface ConnectEvent {
  readonly type: "connect";
  readonly headers: Headers;
  readonly query: URLSearchParams;
}

/** A message from the peer. */
export interface MessageEvent {
  readonly type: "message";
  readonly messageId: string;
  /** A string if the peer sent text, bytes if it sent a binary message. */
  readonly body: string | Uint8Array;
  text(): string;
  bytes(): Uint8Array;
  json<T = any>(): T;
}

/** `$disconnect`: the connection is already closed, so nothing can be sent to it. */
export interface DisconnectEvent {
  readonly type: "disconnect";
  /** The close code: 1005 if the peer sent none, 1006 if the connection was lost. */
  readonly statusCode: number;
  readonly reason: string;
}

export interface PluginFunctions {
  connect?(event: ConnectEvent, context: Context): Result | Promise<Result>;
  message?(event: MessageEvent, context: Context): Result | Promise<Result>;
  disconnect?(event: DisconnectEvent, context: Context): void | Promise<void>;
}

/** The functions of a plugin by route key. All keys but `$connect` and `$disconnect` get messages. */
export interface RouteFunctions {
  $connect?(event: ConnectEvent, context: Context): Result | Promise<Result>;
  $disconnect?(event: DisconnectEvent, context: Context): void | Promise<void>;
  [routeKey: string]: ((event: any, context: Context) => Result | void | Promise<Result | void>) | undefined;
}

/** The decision of an authorizer: a grant, 403 for `"deny"`, or 401 for `"unauthorized"`. */
export type Decision = Grant | "deny" | "unauthorized";

export interface Grant {
  principalId: string;
  /** Every later event of the connection has these values. */
  context?: Record<string, string | number | boolean>;
}

declare const handler: unique symbol;
/** What a file exports as its default, so that its functions are called. */
export interface Handler {
  readonly [handler]: true;
}

/** One function for each kind of event; all are optional. */
export function plugin(functions: PluginFunctions): Handler;
/** One function for each route. A message of another route goes to `$default`. */
export function routes(functions: RouteFunctions): Handler;
/** The function that decides about an upgrade request. */
export function authorizer(
  authorize: (event: ConnectEvent, context: Context) => Decision | Promise<Decision>,
): Handler;

/** Why a connection could not be used. */
export class ConnectionError extends Error {
  readonly statusCode: number;
}
/** The connection does not exist, or is closed: 410. */
export class GoneError extends ConnectionError {}
/** The message is larger than the limit: 413. */
export class PayloadTooLargeError extends ConnectionError {}
/** The peer reads too slowly, or the handler sends too much: 429. */
export class LimitExceededError extends ConnectionError {}
/** The manifest does not grant `connections` to the handler: 403. */
export class ForbiddenError extends ConnectionError {}

export interface ConnectionInfo {
  connectedAt: number;
  lastActiveAt: number;
  identity: Identity;
}

/** The `@connections` operations. Needs `grants = ["connections"]` in the manifest. */
export const connections: {
  /** Queues a message for the peer, on any node that holds its connection. */
  postToConnection(connectionId: string, data: string | Uint8Array): Promise<void>;
  /** Queues the same message for many peers. Returns one result for each id: `undefined`, or the error. */
  postToConnections(
    connectionIds: Iterable<string>,
    data: string | Uint8Array,
  ): Promise<(ConnectionError | undefined)[]>;
  /** Queues the same message for every connection whose row has this attribute. Returns for how many. */
  postToMatching(
    name: string,
    value: string,
    data: string | Uint8Array,
    options?: { except?: string },
  ): Promise<number>;
  getConnection(connectionId: string): Promise<ConnectionInfo>;
  /** Closes the connection, with code 1000 and no reason by default. */
  deleteConnection(connectionId: string, frame?: { code?: number; reason?: string }): Promise<void>;
};

/** Why the connection store could not be used. */
export class StoreError extends Error {
  readonly statusCode: number;
}
/** The connection has no row in this stage: 404. */
export class NoSuchConnectionError extends StoreError {}
/** The row would have more attributes, or longer ones, than the limits allow: 413. */
export class TooLargeError extends StoreError {}
/** The manifest does not grant `connection-store` to the handler: 403. */
export class AccessDeniedError extends StoreError {}
/** The store could not be reached or failed: 503. */
export class UnavailableError extends StoreError {}

export interface Row {
  connectionId: string;
  connectedAt: number;
  /** A name can have several values. */
  attributes: [name: string, value: string][];
  /** The first value of a name. */
  get(name: string): string | undefined;
  getAll(name: string): string[];
}

export interface Page {
  rows: Row[];
  /** For the next page; `undefined` if this page is the last one. */
  cursor?: string;
}

type Value = string | number | boolean;

/** One row for each live connection, with attributes. Needs `grants = ["connection-store"]` in the manifest. */
export const store: {
  get(connectionId: string): Promise<Row>;
  /** Replaces all attributes of the row. */
  put(
    connectionId: string,
    attributes: Record<string, Value | Value[]> | Iterable<[string, Value]>,
  ): Promise<void>;
  /** Adds one attribute. Nothing changes if the row has it already. */
  add(connectionId: string, name: string, value: Value): Promise<void>;
  /** Removes one attribute, or every attribute of that name if there is no value. */
  remove(connectionId: string, name: string, value?: Value): Promise<void>;
  /** Returns one page of the rows that have this attribute. */
  query(name: string, value: Value, cursor?: string): Promise<Page>;
  /** Returns one page of all rows. */
  scan(cursor?: string): Promise<Page>;
  /** Returns the rows of all pages of `query`, which are read as they are needed. */
  queryAll(name: string, value: Value): AsyncIterableIterator<Row>;
  /** Returns the rows of all pages of `scan`, which are read as they are needed. */
  scanAll(): AsyncIterableIterator<Row>;
};

/** Why a bucket could not be used: 403, 404 or 503. */
export class KvError extends Error {
  readonly statusCode: number;
}

export interface Bucket {
  readonly name: string;
  get(key: string): Promise<Uint8Array | undefined>;
  getText(key: string): Promise<string | undefined>;
  getJson<T = any>(key: string): Promise<T | undefined>;
  set(key: string, value: string | Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
  exists(key: string): Promise<boolean>;
  listKeys(cursor?: string): Promise<{ keys: string[]; cursor?: string }>;
  /** Returns the keys of all pages of `listKeys`, which are read as they are needed. */
  keys(): AsyncIterableIterator<string>;
  /**
   * Adds to a decimal number of 64 bits and returns the sum. A key that does not exist counts as 0. A sum that is not a
   * safe integer is exact only as a bigint.
   */
  increment(key: string, delta?: number): Promise<number>;
  increment(key: string, delta: bigint): Promise<bigint>;
  /** Returns `[key, value]` for each key that has a value, and `undefined` for the others, in the order of the keys. */
  getMany(keys: Iterable<string>): Promise<([string, Uint8Array] | undefined)[]>;
  setMany(entries: Record<string, string | Uint8Array> | Iterable<[string, string | Uint8Array]>): Promise<void>;
  deleteMany(keys: Iterable<string>): Promise<void>;
  /** Returns a handle for compare-and-swap, which belongs to the event. Most handlers need only `update`. */
  cas(key: string): Promise<Cas>;
  /**
   * Writes what `change` returns for the current value, and repeats that if another event has changed the value
   * meanwhile. Returns what was written; nothing is written if `change` returns `undefined`.
   */
  update<T extends string | Uint8Array>(
    key: string,
    change: (current: Uint8Array | undefined) => T | undefined | Promise<T | undefined>,
  ): Promise<T | undefined>;
}

/** A key, and its value as it was read last: when the handle was made, by `current`, or by a swap that failed. */
export interface Cas {
  /** Reads the value again. */
  current(): Promise<Uint8Array | undefined>;
  /** Writes a value if the present one is the one that was read last. Returns whether it did. */
  swap(value: string | Uint8Array): Promise<boolean>;
}

/** The buckets that the manifest grants. */
export const kv: {
  /** Opens a bucket. Throws if it is not granted. */
  open(name: string): Promise<Bucket>;
  /** Returns a bucket without opening it. Its calls throw if it is not granted. */
  bucket(name: string): Bucket;
};

type Write = (...values: unknown[]) => void;

/** The host's log, with the levels that it has. Values are formatted as `console.log` does. */
export const log: { trace: Write; debug: Write; info: Write; warn: Write; error: Write; critical: Write };

/** What does not change while a connection is open. */
export interface ConnectionContext {
  /** The id of the API in the manifest. */
  apiId: string;
  /** The path of the API. */
  stage: string;
  /** The `Host` of the upgrade request. */
  domainName: string;
  identity: Identity;
  /** The values that the authorizer granted; empty if there is no authorizer. */
  authorizer: Record<string, string>;
  stageVariables: Record<string, string>;
}

/** The connection whose event is handled. */
export const currentConnection: {
  /** Returns the same values as `Context`, for code that has none. */
  context(): ConnectionContext;
  /** Returns the event as API Gateway sends it to a Lambda function. */
  event(): any;
};

/** The values of the manifest's `config`. */
export const config: {
  get(key: string): Promise<string | undefined>;
  getAll(): Promise<Record<string, string>>;
};
