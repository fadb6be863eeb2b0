// The buckets of the test double. Every function opens its bucket first, as in the engine.

import { countHostCall, currentDouble, currentEvent } from "./double.js";
import { BATCH_KEYS_MAX, CALL_BYTES_MAX, KEY_BYTES_MAX, PAGE_ITEMS, VALUE_BYTES_MAX } from "./limits.js";
import { checkParameters, pairsBytes, textsBytes } from "./parameters.js";
import { bytesIn, compare, optionalText, text } from "./text.js";

const LEAST = -(2n ** 63n);
const MOST = 2n ** 63n - 1n;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function other(message) {
  return ["Other", message];
}

class Bucket {
  #name;
  #content;
  constructor(name, content) {
    this.#name = name;
    this.#content = content;
  }

  get keys() {
    return [...this.#content.pairs.keys()].sort(compare);
  }

  read(key) {
    const value = this.#content.pairs.get(key);
    return value && Uint8Array.from(value);
  }

  remove(key) {
    this.#content.pairs.delete(key);
  }

  /** Writes a value, if the bucket has space for it. A write that adds neither keys nor bytes always fits. */
  write(key, value) {
    const { pairs, bytesMax, keysMax } = this.#content;
    const pairBytes = (key, value) => bytesIn(key) + value.length;
    const bytes = [...pairs].reduce((sum, [key, value]) => sum + pairBytes(key, value), 0);
    const before = pairs.has(key) ? pairBytes(key, pairs.get(key)) : 0;
    const bytesAfter = bytes - before + pairBytes(key, value);
    const keysAfter = pairs.size + (pairs.has(key) ? 0 : 1);
    const hasTooManyKeys = keysAfter > keysMax && keysAfter > pairs.size;
    if (hasTooManyKeys || (bytesAfter > bytesMax && bytesAfter > bytes)) {
      throw other(`the bucket ${JSON.stringify(this.#name)} is full`);
    }
    pairs.set(key, Uint8Array.from(value));
  }
}

function open(bucketName) {
  const name = text(bucketName);
  checkParameters(bytesIn(name));
  countHostCall();
  const { buckets } = currentDouble();
  if (buckets.size === 0) throw ["AccessDenied", ""];
  if (!buckets.has(name)) throw ["NoSuchStore", ""];
  return new Bucket(name, buckets.get(name));
}

function beginCall(parameterBytes) {
  checkParameters(parameterBytes);
  countHostCall();
}

function checkKey(key) {
  if (bytesIn(key) > KEY_BYTES_MAX) throw other(`a key has at most ${KEY_BYTES_MAX} bytes`);
}

function checkValue(value) {
  if (value.length > VALUE_BYTES_MAX) throw other(`a value has at most ${VALUE_BYTES_MAX} bytes`);
}

/** Checks all keys before the first one is used, so that a batch with a bad key changes nothing. */
function checkKeys(keys) {
  if (keys.length > BATCH_KEYS_MAX) throw other(`${keys.length} keys in one call: at most ${BATCH_KEYS_MAX}`);
  keys.forEach(checkKey);
}

function get(bucketName, keyText) {
  const [bucket, key] = [open(bucketName), text(keyText)];
  beginCall(bytesIn(key));
  checkKey(key);
  return bucket.read(key);
}

/** A number of 64 bits of a value, as the host reads it. */
function decimal(value, key) {
  let digits;
  try {
    digits = decoder.decode(value);
  } catch {
    // It is not UTF-8.
  }
  const number = digits !== undefined && /^[+-]?[0-9]+$/.test(digits) ? BigInt(digits.replace("+", "")) : undefined;
  if (number === undefined || number < LEAST || number > MOST) throw other(`the value of ${key} is not a decimal number`);
  return number;
}

// Handles of compare-and-swap belong to the event. Those of a test itself are kept here.
const handlesOfTests = [];
const handles = () => currentEvent()?.handles ?? handlesOfTests;

function keep(handle) {
  return handles().push(handle) - 1;
}

function handleOf(number) {
  const handle = handles()[number];
  if (handle !== undefined) return handle;
  throw new Error("this handle was used by a swap already, or is of an event that has ended; call compare again");
}

function same(one, another) {
  return one === undefined || another === undefined ? one === another : Buffer.compare(one, another) === 0;
}

export const keyvalue = {
  open(name) {
    open(name);
  },

  get,

  set(name, keyText, value) {
    const [bucket, key] = [open(name), text(keyText)];
    beginCall(bytesIn(key) + value.length);
    checkKey(key);
    checkValue(value);
    bucket.write(key, value);
  },

  delete(name, keyText) {
    const [bucket, key] = [open(name), text(keyText)];
    beginCall(bytesIn(key));
    checkKey(key);
    bucket.remove(key);
  },

  exists(name, key) {
    return get(name, key) !== undefined;
  },

  listKeys(name, cursorText) {
    const [bucket, cursor] = [open(name), optionalText(cursorText)];
    beginCall(bytesIn(cursor ?? ""));
    const after = bucket.keys.filter((key) => cursor === undefined || compare(key, cursor) > 0);
    const keys = after.slice(0, PAGE_ITEMS);
    return [keys, after.length > keys.length ? keys.at(-1) : undefined];
  },

  increment(name, keyText, delta) {
    const [bucket, key] = [open(name), text(keyText)];
    beginCall(bytesIn(key));
    checkKey(key);
    const value = bucket.read(key);
    const now = value === undefined ? 0n : decimal(value, key);
    const sum = now + BigInt(delta);
    if (sum < LEAST || sum > MOST) throw other(`${now} and ${delta} are more than a number can be`);
    bucket.write(key, Buffer.from(String(sum)));
    return String(sum);
  },

  compare(name, keyText) {
    const [bucket, key] = [open(name), text(keyText)];
    beginCall(bytesIn(key));
    checkKey(key);
    return keep({ bucket, key, seen: bucket.read(key) });
  },

  current(number) {
    const handle = handleOf(number);
    beginCall(0);
    handle.seen = handle.bucket.read(handle.key);
    return handle.seen && Uint8Array.from(handle.seen);
  },

  swap(number, value) {
    const { bucket, key, seen } = handleOf(number);
    handles()[number] = undefined;
    beginCall(value.length);
    checkValue(value);
    const now = bucket.read(key);
    if (!same(now, seen)) return keep({ bucket, key, seen: now });
    bucket.write(key, value);
    return undefined;
  },

  getMany(name, keyTexts) {
    const [bucket, keys] = [open(name), keyTexts.map(text)];
    beginCall(textsBytes(keys));
    checkKeys(keys);
    const values = keys.map((key) => bucket.read(key));
    const bytes = values.reduce((sum, value) => sum + (value?.length ?? 0), 0);
    if (bytes > CALL_BYTES_MAX) throw other(`${bytes} bytes of values in one call: at most ${CALL_BYTES_MAX}`);
    return keys.map((key, index) => (values[index] === undefined ? undefined : [key, values[index]]));
  },

  setMany(name, keyTexts, values) {
    const [bucket, keys] = [open(name), keyTexts.map(text)];
    beginCall(pairsBytes(keys.map((key, index) => [key, values[index]])));
    checkKeys(keys);
    values.forEach(checkValue);
    keys.forEach((key, index) => bucket.write(key, values[index]));
  },

  deleteMany(name, keyTexts) {
    const [bucket, keys] = [open(name), keyTexts.map(text)];
    beginCall(textsBytes(keys));
    checkKeys(keys);
    keys.forEach((key) => bucket.remove(key));
  },
};
