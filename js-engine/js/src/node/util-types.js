// The module `node:util/types`.

const tag = (value) => Object.prototype.toString.call(value).slice(8, -1);
const tagged = (name) => (value) => typeof value === "object" && value !== null && tag(value) === name;

/** Whether `probe`, a method that only accepts its own kind of object, accepts the value. */
const accepted = (probe) => (value) => {
  if (typeof value !== "object" || value === null) return false;
  try {
    probe.call(value);
    return true;
  } catch {
    return false;
  }
};
const getter = (prototype, name) => Object.getOwnPropertyDescriptor(prototype, name).get;

const typedArrayName = getter(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag);
const typedArray = (name) => (value) => typedArrayName.call(value) === name;

const isDate = accepted(Date.prototype.getTime);
const isMap = accepted(getter(Map.prototype, "size"));
const isSet = accepted(getter(Set.prototype, "size"));
const isArrayBuffer = accepted(getter(ArrayBuffer.prototype, "byteLength"));
const isSharedArrayBuffer =
  typeof SharedArrayBuffer === "function"
    ? accepted(getter(SharedArrayBuffer.prototype, "byteLength"))
    : () => false;
const isNumberObject = accepted(Number.prototype.valueOf);
const isStringObject = accepted(String.prototype.valueOf);
const isBooleanObject = accepted(Boolean.prototype.valueOf);
const isSymbolObject = accepted(Symbol.prototype.valueOf);
const isBigIntObject = accepted(BigInt.prototype.valueOf);

export const types = {
  isAnyArrayBuffer: (value) => isArrayBuffer(value) || isSharedArrayBuffer(value),
  isArgumentsObject: tagged("Arguments"),
  isArrayBuffer,
  isArrayBufferView: (value) => ArrayBuffer.isView(value),
  isAsyncFunction: (value) => typeof value === "function" && /^Async/.test(tag(value)),
  isBigInt64Array: typedArray("BigInt64Array"),
  isBigUint64Array: typedArray("BigUint64Array"),
  isBigIntObject,
  isBooleanObject,
  isBoxedPrimitive: (value) =>
    isNumberObject(value) || isStringObject(value) || isBooleanObject(value) || isSymbolObject(value) || isBigIntObject(value),
  isCryptoKey: (value) => typeof CryptoKey === "function" && value instanceof CryptoKey,
  isDataView: (value) => ArrayBuffer.isView(value) && typedArrayName.call(value) === undefined,
  isDate,
  isExternal: () => false,
  isFloat32Array: typedArray("Float32Array"),
  isFloat64Array: typedArray("Float64Array"),
  isGeneratorFunction: (value) => typeof value === "function" && /GeneratorFunction$/.test(tag(value)),
  isGeneratorObject: (value) => tagged("Generator")(value) || tagged("AsyncGenerator")(value),
  isInt8Array: typedArray("Int8Array"),
  isInt16Array: typedArray("Int16Array"),
  isInt32Array: typedArray("Int32Array"),
  isKeyObject: (value) => value?.[Symbol.toStringTag] === "KeyObject",
  isMap,
  isMapIterator: tagged("Map Iterator"),
  isModuleNamespaceObject: tagged("Module"),
  isNativeError: tagged("Error"),
  isNumberObject,
  isPromise: tagged("Promise"),
  // A script cannot see that an object is a proxy.
  isProxy: () => false,
  isRegExp: accepted(getter(RegExp.prototype, "source")),
  isSet,
  isSetIterator: tagged("Set Iterator"),
  isSharedArrayBuffer,
  isStringObject,
  isSymbolObject,
  isTypedArray: (value) => typedArrayName.call(value) !== undefined,
  isUint8Array: typedArray("Uint8Array"),
  isUint8ClampedArray: typedArray("Uint8ClampedArray"),
  isUint16Array: typedArray("Uint16Array"),
  isUint32Array: typedArray("Uint32Array"),
  isWeakMap: tagged("WeakMap"),
  isWeakSet: tagged("WeakSet"),
};
