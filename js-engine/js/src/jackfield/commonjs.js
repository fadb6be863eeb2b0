// CommonJS: the module's function is called with what it expects besides the globals.

import { loadBuiltin } from "../builtins.js";

/** Evaluates a module of which the engine made a function. Returns what it exports. */
export function evaluateCommonJs(evaluate, name) {
  const module = { exports: {}, id: name, filename: name, loaded: false, children: [], paths: [] };
  const require = (wanted) => {
    if (typeof wanted !== "string") throw new TypeError(`require expects the name of a module, but got ${typeof wanted}`);
    return commonJsExports(loadBuiltin(wanted));
  };
  require.resolve = (wanted) => wanted;
  require.cache = {};
  require.main = module;
  module.require = require;
  evaluate.call(module.exports, module.exports, require, module, `/${name}`, "/");
  module.loaded = true;
  return namespace(module.exports);
}

/** A built-in module as `require` returns it: its default export if that is all of it. */
function commonJsExports(exports) {
  const names = Object.keys(exports);
  return names.length === 1 && names[0] === "default" ? exports.default : exports;
}

/** `module.exports` as an ES module has it: each property, and the whole as `default` unless there is one. */
function namespace(exports) {
  const isObject = (typeof exports === "object" || typeof exports === "function") && exports !== null;
  if (!isObject) return { default: exports };
  const result = Object.create(null);
  for (const name of Object.keys(exports)) result[name] = exports[name];
  if (!("default" in result)) Object.defineProperty(result, "default", { value: exports, enumerable: typeof exports === "function" });
  return result;
}
