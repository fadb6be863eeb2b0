// Secure randomness. An image is shared by every event, so that there is none while a handler is loaded.
import { native } from "../../native.js";
import { asBuffer } from "../buffer.js";
import { coded, invalidType } from "../errors.js";

// WebCrypto's limit of getRandomValues, in bytes.
const VALUES_BYTES_MAX = 65536;

// What `native.random.bytes` returns at once.
const PART_BYTES_MAX = 65536;

// What a Buffer may hold, as in node; memory ends before.
const BYTES_MAX = 2 ** 31 - 1;

function random(length, caller) {
  if (native.loading()) {
    throw new Error(
      `${caller}: there is no secure randomness while a handler is loaded, since all events start from the memory that ` +
        "loading leaves; move the call into the handler",
    );
  }
  if (length <= PART_BYTES_MAX) return native.random.bytes(length);
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length; offset += PART_BYTES_MAX) {
    bytes.set(native.random.bytes(Math.min(PART_BYTES_MAX, length - offset)), offset);
  }
  return bytes;
}

function outOfRange(name, range, value) {
  return coded(
    new RangeError(`The value of "${name}" is out of range. It must be ${range}. Received ${value}`),
    "ERR_OUT_OF_RANGE",
  );
}

/** Calls back in a later job, as node does, if there is a callback; returns the value otherwise. */
function answer(callback, value) {
  if (callback === undefined) return value;
  if (typeof callback !== "function") throw invalidType("callback", "of type function", callback);
  process.nextTick(callback, null, value);
}

export function randomBytes(size, callback) {
  if (typeof size !== "number") throw invalidType("size", "of type number", size);
  if (!(size >= 0 && size <= BYTES_MAX)) throw outOfRange("size", `>= 0 && <= ${BYTES_MAX}`, size);
  return answer(callback, asBuffer(random(Math.trunc(size), "crypto.randomBytes")));
}

export function randomFillSync(target, offset = 0, size) {
  const bytes = ArrayBuffer.isView(target)
    ? new Uint8Array(target.buffer, target.byteOffset, target.byteLength)
    : new Uint8Array(target);
  const unit = target.BYTES_PER_ELEMENT ?? 1;
  const start = offset * unit;
  const end = size === undefined ? bytes.length : start + size * unit;
  if (!(start >= 0 && start <= bytes.length)) throw outOfRange("offset", `>= 0 && <= ${bytes.length}`, offset);
  if (!(end >= start && end <= bytes.length)) throw outOfRange("size + offset", `<= ${bytes.length}`, end);
  bytes.set(random(end - start, "crypto.randomFillSync"), start);
  return target;
}

export function randomFill(target, offset, size, callback) {
  if (typeof offset === "function") [callback, offset, size] = [offset, undefined, undefined];
  else if (typeof size === "function") [callback, size] = [size, undefined];
  answer(callback, randomFillSync(target, offset, size));
}

export function randomInt(min, max, callback) {
  if (max === undefined || typeof max === "function") [min, max, callback] = [0, min, max];
  for (const [name, value] of [["min", min], ["max", max]]) {
    if (!Number.isSafeInteger(value)) throw invalidType(name, "a safe integer", value);
  }
  const range = max - min;
  if (range <= 0) throw outOfRange("max", `greater than the value of "min" (${min})`, max);
  if (range > 2 ** 48 - 1) throw outOfRange("max - min", `<= ${2 ** 48 - 1}`, range);
  // Values at or above the last whole multiple of the range would favour small results.
  const limit = 2 ** 48 - (2 ** 48 % range);
  let value;
  do {
    value = random(6, "crypto.randomInt").reduce((sum, byte) => sum * 256 + byte, 0);
  } while (value >= limit);
  return answer(callback, min + (value % range));
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function randomUUID() {
  const b = random(16, "crypto.randomUUID");
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  let text = "";
  for (let i = 0; i < 16; i++) text += i === 4 || i === 6 || i === 8 || i === 10 ? `-${HEX[b[i]]}` : HEX[b[i]];
  return text;
}

export function getRandomValues(target) {
  if (!ArrayBuffer.isView(target) || target instanceof DataView || /^Float/.test(target[Symbol.toStringTag])) {
    throw new DOMException("The data argument must be an integer-type TypedArray", "TypeMismatchError");
  }
  if (target.byteLength > VALUES_BYTES_MAX) {
    throw new DOMException(
      `The requested length exceeds ${VALUES_BYTES_MAX} bytes`,
      "QuotaExceededError",
    );
  }
  const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
  bytes.set(random(bytes.length, "crypto.getRandomValues"));
  return target;
}
