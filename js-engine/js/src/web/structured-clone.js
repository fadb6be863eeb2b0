// `structuredClone` of the HTML standard.

import { Blob, File, bytesOf } from "./blob.js";
import { isArrayBuffer } from "./bytes.js";
import { isPort, movePort } from "./message-channel.js";

const ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

const valueOfDate = Date.prototype.getTime;
const sizeOfMap = Object.getOwnPropertyDescriptor(Map.prototype, "size").get;
const sizeOfSet = Object.getOwnPropertyDescriptor(Set.prototype, "size").get;
const nameOfTypedArray = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag,
).get;

export function structuredClone(value, options = undefined) {
  if (arguments.length === 0) throw new TypeError("structuredClone: the argument is missing");
  const transfer = [...(options?.transfer ?? [])];
  const clones = new Map();
  checkTransfer(transfer);
  // A port is moved before the value is copied, because the copy contains the new one. A buffer is copied and then taken
  // away from the caller, because views on it are copied by their positions in it.
  for (const object of transfer) if (isPort(object)) clones.set(object, movePort(object));
  const result = clone(value, clones);
  for (const object of transfer) if (isArrayBuffer(object)) object.transfer();
  return result;
}

function checkTransfer(transfer) {
  for (const [index, object] of transfer.entries()) {
    if (!isPort(object) && !isArrayBuffer(object)) throw cloneError(`${kindOf(object)} cannot be transferred`);
    if (transfer.indexOf(object) !== index) throw cloneError("an object is in the list of transfers twice");
    if (isArrayBuffer(object) && object.detached) throw cloneError("an ArrayBuffer was already transferred");
  }
}

function clone(value, clones) {
  if (typeof value === "symbol" || typeof value === "function") throw cloneError(`${kindOf(value)} cannot be cloned`);
  if (typeof value !== "object" || value === null) return value;
  const known = clones.get(value);
  if (known !== undefined) return known;
  const special = cloneSpecial(value, clones);
  if (special !== undefined) return special;
  if (Array.isArray(value)) {
    const copy = new Array(value.length);
    clones.set(value, copy);
    return copyProperties(value, copy, clones);
  }
  const copy = {};
  clones.set(value, copy);
  return copyProperties(value, copy, clones);
}

/** Clones objects with inner state; returns `undefined` for plain ones. */
function cloneSpecial(value, clones) {
  const remember = (copy) => {
    clones.set(value, copy);
    return copy;
  };
  if (ArrayBuffer.isView(value)) return remember(cloneView(value, clones));
  // Most objects are plain. They need none of the tests below.
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null || Array.isArray(value)) return undefined;
  if (has(valueOfDate, value)) return remember(new Date(valueOfDate.call(value)));
  if (has(sizeOfMap, value)) {
    const copy = remember(new Map());
    for (const [key, item] of [...Map.prototype.entries.call(value)]) {
      copy.set(clone(key, clones), clone(item, clones));
    }
    return copy;
  }
  if (has(sizeOfSet, value)) {
    const copy = remember(new Set());
    for (const item of [...Set.prototype.values.call(value)]) copy.add(clone(item, clones));
    return copy;
  }
  if (isArrayBuffer(value)) return remember(cloneBuffer(value));
  if (value instanceof RegExp) return remember(new RegExp(value.source, value.flags));
  if (value instanceof SharedArrayBuffer) return value;
  if (value instanceof DOMException) return remember(new DOMException(value.message, value.name));
  if (value instanceof Error) return cloneErrorObject(value, remember, clones);
  if (value instanceof File) {
    const { type, lastModified } = value;
    return remember(new File([bytesOf(value)], value.name, { type, lastModified }));
  }
  if (value instanceof Blob) return remember(new Blob([bytesOf(value)], { type: value.type }));
  for (const Wrapper of [Boolean, Number, String, BigInt]) {
    if (value instanceof Wrapper) return remember(Object(Wrapper.prototype.valueOf.call(value)));
  }
  if (isPort(value)) throw cloneError("a MessagePort can only be transferred");
  for (const name of ["Promise", "WeakMap", "WeakSet", "WeakRef", "Symbol", "ReadableStream", "WritableStream",
    "TransformStream", "Headers", "Request", "Response", "URL", "URLSearchParams", "FormData", "EventTarget", "Event"]) {
    if (value instanceof globalThis[name]) throw cloneError(`${kindOf(value)} cannot be cloned`);
  }
  return undefined;
}

/** Returns whether a method that needs inner state accepts the object. */
function has(method, object) {
  try {
    method.call(object);
    return true;
  } catch {
    return false;
  }
}

function cloneView(view, clones) {
  const buffer = clone(view.buffer, clones);
  if (view instanceof DataView) return new DataView(buffer, view.byteOffset, view.byteLength);
  // The name of the inner type: a subclass, such as Buffer, becomes a Uint8Array.
  const TypedArray = globalThis[nameOfTypedArray.call(view)];
  return new TypedArray(buffer, view.byteOffset, view.length);
}

function cloneBuffer(buffer) {
  if (buffer.detached) throw cloneError("an ArrayBuffer was transferred and cannot be cloned");
  if (!buffer.resizable) return buffer.slice(0);
  const copy = new ArrayBuffer(buffer.byteLength, { maxByteLength: buffer.maxByteLength });
  new Uint8Array(copy).set(new Uint8Array(buffer));
  return copy;
}

function cloneErrorObject(error, remember, clones) {
  const copy = remember(new (Object.hasOwn(ERRORS, error.name) ? ERRORS[error.name] : Error)());
  const message = Object.getOwnPropertyDescriptor(error, "message");
  if (message && "value" in message) define(copy, "message", `${message.value}`);
  define(copy, "stack", `${error.stack}`);
  const cause = Object.getOwnPropertyDescriptor(error, "cause");
  if (cause && "value" in cause) define(copy, "cause", clone(cause.value, clones));
  return copy;
}

function define(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
}

function copyProperties(from, to, clones) {
  for (const key of Object.keys(from)) {
    const value = clone(from[key], clones);
    // An assignment to this name would set the prototype.
    if (key === "__proto__") Object.defineProperty(to, key, { value, writable: true, configurable: true, enumerable: true });
    else to[key] = value;
  }
  return to;
}

function cloneError(problem) {
  return new DOMException(`structuredClone: ${problem}`, "DataCloneError");
}

function kindOf(value) {
  if (typeof value === "function") return `the function ${value.name || "without a name"}`;
  if (typeof value === "symbol") return String(value);
  if (typeof value !== "object" || value === null) return String(value);
  return `an object of the class ${value.constructor?.name ?? "Object"}`;
}
