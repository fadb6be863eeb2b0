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
  /** Fails if the bucket is not granted. */
  async open() {
    this.#call("open");
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
  /** All keys, of all pages. */
  async *keys() {
    let cursor;
    do {
      const [keys, next] = this.#call("listKeys", cursor);
      yield* keys;
      cursor = next;
    } while (cursor !== undefined);
  }
  /** Adds to a decimal number of 64 bits and returns the sum: a bigint if `delta` is one. */
  async increment(key, delta = 1) {
    const isBig = typeof delta === "bigint";
    if (isBig ? BigInt.asIntN(64, delta) !== delta : !Number.isSafeInteger(delta)) {
      throw new RangeError("increment expects a whole number of at most 64 bits; one that is not safe has to be a bigint");
    }
    const sum = this.#call("increment", key, String(delta));
    return isBig ? BigInt(sum) : Number(sum);
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
  /** A handle for compare-and-swap. */
  async cas(key) {
    return new Cas(this.#call("compare", key), (body) => this.#guard(body));
  }
  /**
   * Writes what `change` returns for the current value, and repeats that if another event has changed the value
   * meanwhile. Returns what was written; undefined, and nothing is written, if `change` returns undefined.
   */
  async update(key, change) {
    const handle = await this.cas(key);
    for (;;) {
      const value = await change(await handle.current());
      if (value === undefined) return undefined;
      if (await handle.swap(value)) return value;
    }
  }
}

/** A key and the value that was read last. A swap that fails reads the value again. */
class Cas {
  #handle;
  #guard;
  constructor(handle, guard) {
    this.#handle = handle;
    this.#guard = guard;
  }
  async current() {
    return this.#guard(() => host.current(this.#handle));
  }
  async swap(value) {
    const next = this.#guard(() => host.swap(this.#handle, bytes(value)));
    if (next === undefined) return true;
    this.#handle = next;
    return false;
  }
}

export const kv = {
  /** Opens a bucket. Each later call opens it again, so `bucket` is enough where a missing grant may show at its first use. */
  async open(name) {
    const bucket = new Bucket(name);
    await bucket.open();
    return bucket;
  },

  bucket(name) {
    return new Bucket(name);
  },
};
