// `store` of "jackfield": the connection store, in camelCase, returning promises.

import { native } from "../native.js";
import { errorClass } from "./error-class.js";

const { store: host } = native;

export class StoreError extends Error {
  constructor(message, statusCode) {
    super(message);
    this.statusCode = statusCode;
  }
}

const NoSuchConnectionError = errorClass(StoreError, "NoSuchConnectionError", 404, "the connection has no row in this stage");
const TooLargeError = errorClass(StoreError, "TooLargeError", 413, "the row would have more attributes, or longer ones, than the limits allow");
const AccessDeniedError = errorClass(StoreError, "AccessDeniedError", 403, "the manifest does not grant this to the handler");
const UnavailableError = errorClass(StoreError, "UnavailableError", 503, "the store could not be reached");

const ERRORS = { NoSuchConnection: NoSuchConnectionError, TooLarge: TooLargeError, AccessDenied: AccessDeniedError, Unavailable: UnavailableError };

export const errors = { StoreError, NoSuchConnectionError, TooLargeError, AccessDeniedError, UnavailableError };

/** Calls the host. What it throws is `[kind, text]`, or an error of the engine's own. */
function call(name, ...args) {
  try {
    return host[name](...args);
  } catch (thrown) {
    if (!Array.isArray(thrown)) throw thrown;
    const [kind, text] = thrown;
    throw new ERRORS[kind](text || undefined);
  }
}

/** Attributes are read as lists of pairs, because a name can have several values. */
function row([connectionId, connectedAt, attributes]) {
  return {
    connectionId,
    connectedAt,
    attributes,
    get(name) {
      return attributes.find(([one]) => one === name)?.[1];
    },
    getAll(name) {
      return attributes.filter(([one]) => one === name).map(([, value]) => value);
    },
  };
}

function page([rows, cursor]) {
  return { rows: rows.map(row), cursor };
}

/** An object `{ room: "a", tag: ["x", "y"] }`, or a list of pairs, as names and values in turn. */
function flatten(attributes) {
  const pairs = typeof attributes?.[Symbol.iterator] === "function" ? [...attributes] : Object.entries(attributes ?? {});
  return pairs.flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).flatMap((one) => [String(name), String(one)]));
}

export const store = {
  async get(connectionId) {
    return row(call("get", connectionId));
  },
  async put(connectionId, attributes) {
    call("put", connectionId, flatten(attributes));
  },
  async add(connectionId, name, value) {
    call("add", connectionId, name, String(value));
  },
  async remove(connectionId, name, value) {
    call("remove", connectionId, name, value === undefined ? undefined : String(value));
  },
  async query(name, value, cursor) {
    return page(call("query", name, String(value), cursor));
  },
  async scan(cursor) {
    return page(call("scan", cursor));
  },

  /** The rows of all pages of `query`. */
  queryAll(name, value) {
    return rows((cursor) => store.query(name, value, cursor));
  },

  /** The rows of all pages of `scan`. */
  scanAll() {
    return rows((cursor) => store.scan(cursor));
  },
};

async function* rows(fetch) {
  let cursor;
  do {
    const page = await fetch(cursor);
    yield* page.rows;
    cursor = page.cursor;
  } while (cursor !== undefined);
}
