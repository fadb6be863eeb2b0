// The module `node:util`. Named exports, because npm packages of the base image import it as `util/`.
import { custom as customInspect, format, inspect as show } from "../jackfield/inspect.js";
import { invalidType, missing } from "./errors.js";
import { types } from "./util-types.js";

export { format, types };

/** Escape sequences of terminals by the names that `styleText` takes. */
const COLORS = {
  reset: [0, 0],
  bold: [1, 22],
  dim: [2, 22],
  italic: [3, 23],
  underline: [4, 24],
  inverse: [7, 27],
  strikethrough: [9, 29],
  black: [30, 39],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  magenta: [35, 39],
  cyan: [36, 39],
  white: [37, 39],
  gray: [90, 39],
};

/** Node's inspect, as the console shows values; the old form has options as arguments. */
export function inspect(value, options, depth) {
  return show(value, typeof options === "boolean" ? { showHidden: options, depth } : options);
}
Object.assign(inspect, { custom: customInspect, colors: COLORS, styles: {}, defaultOptions: { depth: 2, breakLength: 80 } });

export function formatWithOptions(options, ...values) {
  return format(...values);
}

export function stripVTControlCharacters(text) {
  return text.replace(/[\u001b\u009b][[\]()#;?]*(?:(?:[\w;:/?%&=.~-]*\u0007)|(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PR-TZcf-nq-uy=><~])/g, "");
}

const custom = Symbol.for("nodejs.util.promisify.custom");

export function promisify(original) {
  if (typeof original !== "function") throw invalidType("original", "of type function", original);
  if (typeof original[custom] === "function") return original[custom];
  function promisified(...args) {
    return new Promise((resolve, reject) => {
      original.call(this, ...args, (error, value) => (error ? reject(error) : resolve(value)));
    });
  }
  Object.setPrototypeOf(promisified, Object.getPrototypeOf(original));
  Object.defineProperty(promisified, custom, { value: promisified, configurable: true });
  return Object.defineProperties(promisified, Object.getOwnPropertyDescriptors(original));
}
promisify.custom = custom;

export function callbackify(original) {
  if (typeof original !== "function") throw invalidType("original", "of type function", original);
  return function callbackified(...args) {
    const callback = args.pop();
    if (typeof callback !== "function") throw invalidType("last argument", "of type function", callback);
    original.apply(this, args).then(
      (value) => process.nextTick(callback, null, value),
      (reason) => {
        if (!reason) {
          const error = new Error("Promise was rejected with a falsy value");
          reason = Object.assign(error, { code: "ERR_FALSY_VALUE_REJECTION", reason });
        }
        process.nextTick(callback, reason);
      },
    );
  };
}

export function inherits(constructor, parent) {
  Object.defineProperty(constructor, "super_", { value: parent, writable: true, configurable: true });
  Object.setPrototypeOf(constructor.prototype, parent.prototype);
}

const reported = new Set();

export function deprecate(original, message, code) {
  function deprecated(...args) {
    if (!reported.has(code ?? deprecated)) {
      reported.add(code ?? deprecated);
      process.emitWarning(message, "DeprecationWarning", code);
    }
    return new.target ? Reflect.construct(original, args, new.target) : original.apply(this, args);
  }
  Object.setPrototypeOf(deprecated, original);
  if (original.prototype) deprecated.prototype = original.prototype;
  return deprecated;
}

export function debuglog(section) {
  const enabled = () => new RegExp(`\\b${section}\\b`, "i").test(process.env.NODE_DEBUG ?? "");
  const log = (...args) => {
    if (enabled()) console.error(`${section.toUpperCase()}: ${format(...args)}`);
  };
  return Object.defineProperty(log, "enabled", { get: enabled });
}
export const debug = debuglog;

export function toUSVString(text) {
  return `${text}`.toWellFormed();
}

export function styleText(style, text) {
  let styled = text;
  for (const name of [style].flat()) {
    const codes = COLORS[name];
    if (codes === undefined) throw invalidType("format", "a known style", name);
    styled = `\u001b[${codes[0]}m${styled}\u001b[${codes[1]}m`;
  }
  return styled;
}

export function aborted(signal) {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

export function getSystemErrorName(number) {
  return { "-2": "ENOENT", "-13": "EACCES", "-104": "ECONNRESET", "-110": "ETIMEDOUT", "-111": "ECONNREFUSED" }[number];
}

/** `Object.assign`, under the name that old packages call. */
export function extend(target, source) {
  return source === null || typeof source !== "object" ? target : Object.assign(target, source);
}
export { extend as _extend };

export const parseArgs = missing("util.parseArgs");
export const isArray = Array.isArray;
export const isBoolean = (value) => typeof value === "boolean";
export const isBuffer = (value) => Buffer.isBuffer(value);
export const isDate = types.isDate;
export const isError = (value) => types.isNativeError(value) || value instanceof Error;
export const isFunction = (value) => typeof value === "function";
export const isNull = (value) => value === null;
export const isNullOrUndefined = (value) => value === null || value === undefined;
export const isNumber = (value) => typeof value === "number";
export const isObject = (value) => value !== null && typeof value === "object";
export const isPrimitive = (value) => value === null || !["object", "function"].includes(typeof value);
export const isRegExp = types.isRegExp;
export const isString = (value) => typeof value === "string";
export const isSymbol = (value) => typeof value === "symbol";
export const isUndefined = (value) => value === undefined;
export const log = (...args) => console.log(format(...args));

/** The module object; assert.js adds `isDeepStrictEqual`, which needs this module itself. */
export const util = {
  _extend: extend,
  aborted,
  callbackify,
  debug,
  debuglog,
  deprecate,
  format,
  formatWithOptions,
  getSystemErrorName,
  inherits,
  inspect,
  isArray,
  isBoolean,
  isBuffer,
  isDate,
  isError,
  isFunction,
  isNull,
  isNullOrUndefined,
  isNumber,
  isObject,
  isPrimitive,
  isRegExp,
  isString,
  isSymbol,
  isUndefined,
  log,
  parseArgs,
  promisify,
  stripVTControlCharacters,
  styleText,
  toUSVString,
  types,
  get TextEncoder() {
    return globalThis.TextEncoder;
  },
  get TextDecoder() {
    return globalThis.TextDecoder;
  },
};
