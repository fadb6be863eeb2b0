// `kv` of "jackfield": the buckets of wasi:keyvalue, in camelCase, returning promises.

import { native } from "../native.js";
import { bytesOf } from "./respond.js";

const { kv: host } = native;

export class KvError extends Error {
  constructor(message, statusCode) {
    super(message);
    this.statusCode = statusCode;
  }
}
Object.defineProperty(KvError.prototype, "name", { value: "KvError", configurable: true, writable: true });

const ERRORS = {
  NoSuchStore: (bucket) => new KvError(`no bucket ${JSON.stringify(bucket)} is granted to the handler`, 404),
  AccessDenied: (bucket) => new KvError(`the manifest does not grant the bucket ${JSON.stringify(bucket)} to the handler`, 403),
  Other: (bucket, text) => new KvError(`the bucket ${JSON.stringify(bucket)} failed: ${text}`, 503),
};

export const errors = { KvError };

function bytes(value) {
  const found = typeof value === "string" ? new TextEncoder().encode(value) : bytesOf(value);
  if (found !== undefined) return found;
  throw new TypeError(`a value of a bucket is a string or a Uint8Array, not ${typeof value}; use JSON.stringify for JSON`);
}

/** A value of a bucket: bytes that can be read as text or JSON. */
function text(value) {
  return value === undefined ? undefined : new TextDecoder().decode(value);
}

class Bucket {
  #name;
  constructor(name) {
    this.#name = String(name);
  }
  get name() {
    return this.#name;
  }
  #call(operation, ...args) {
    return this.#guard(() => host[operation](this.#name, ...args));
  }
  #guard(body) {
    try {
      return body();
    } catch (thrown) {
      if (!Array.isArray(thrown)) throw thrown;
      throw ERRORS[thrown[0]](this.#name, thrown[1]);
    }
  }
  /** The bytes of the value; undefined if there is none. */
  async get(key) {
    return this.#call("get", key);
  }
  async getText(key) {
    return text(this.#call("get", key));
  }
  async getJson(key) {
    const value = text(this.#call("get", key));
    return value === undefined ? undefined : JSON.parse(value);
  }
  async set(key, value) {
    this.#call("set", key, bytes(value));
  }
  async delete(key) {
    this.#call("delete", key);
  }
  async exists(key) {
    return this.#call("exists", key);
  }
  async listKeys(cursor) {
    const [keys, next] = this.#call("listKeys", cursor);
    return { keys, cursor: next };
  }
  /** Adds to a decimal number and returns the sum. */
  async increment(key, delta = 1) {
    if (!Number.isSafeInteger(delta)) throw new RangeError("increment expects a whole number");
    return this.#call("increment", key, delta);
  }
  async getMany(keys) {
    return this.#call("getMany", [...keys]);
  }
  async setMany(entries) {
    const pairs = typeof entries[Symbol.iterator] === "function" ? [...entries] : Object.entries(entries);
    this.#call("setMany", pairs.map(([key]) => key), pairs.map(([, value]) => bytes(value)));
  }
  async deleteMany(keys) {
    this.#call("deleteMany", [...keys]);
  }
  /**
   * Writes what `change` returns for the current value, and repeats that if another event has changed the value
   * meanwhile. Returns what was written; undefined, and nothing is written, if `change` returns undefined.
   */
  async update(key, change) {
    let handle = this.#call("compare", key);
    for (;;) {
      const current = this.#guard(() => host.current(handle));
      const value = await change(current);
      if (value === undefined) return undefined;
      const next = this.#guard(() => host.swap(handle, bytes(value)));
      if (next === undefined) return value;
      handle = next;
    }
  }
}

export const kv = {
  bucket(name) {
    return new Bucket(name);
  },
};
