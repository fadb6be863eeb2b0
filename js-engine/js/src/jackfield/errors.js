// What was thrown, for the log: a message of one line, and the stack apart.

import { loadBuiltin } from "../builtins.js";
import { native } from "../native.js";
import { inspect } from "./inspect.js";

/** The start of a position on the first line of a CommonJS file, whose columns include the head of its function. */
let firstLine;

/** The file name, if the file is an ES module. */
let moduleName;
/** The text of the file while it is loaded. */
let source;

/** Takes what is to be loaded, so that positions in it can be corrected. */
export function expectFile(request) {
  const { name, format } = request;
  firstLine = format === "commonjs" ? `${name}:1:` : undefined;
  moduleName = format === "commonjs" ? undefined : name;
  source = request.source;
}

/** Called when the file is loaded, so that its text is not in the image. */
export function forgetSource() {
  source = undefined;
}

/** Returns `[message, stack]` of anything that was thrown. */
export function describe(reason) {
  try {
    if (!isError(reason)) {
      const advice = typeof reason === "string" ? "; throw new Error(...), which has a stack" : "";
      return [`${kind(reason)} was thrown that is no Error: ${inspect(reason)}${advice}`, ""];
    }
    return missingExport(reason) ?? [headline(reason) + nameOfCommonJs(reason), stackOf(reason) + causes(reason)];
  } catch {
    // A proxy or a getter of what was thrown throws, too.
    return ["something was thrown that cannot be described", ""];
  }
}

const MISSING_EXPORT = /^Could not find export '(.+)' in module '(.+)'$/;

/** Describes an import of a name that a built-in module does not export, with its position and the names that there are. */
function missingExport(error) {
  const found = source !== undefined && error instanceof SyntaxError && MISSING_EXPORT.exec(error.message);
  if (!found) return undefined;
  const [, name, from] = found;
  const names = Object.keys(loadBuiltin(from)).filter((one) => one !== "default");
  const similar = names.filter((one) => one.toLowerCase().startsWith(name.slice(0, 3).toLowerCase()));
  const listed = names.length <= 30 ? names : similar;
  const exports = listed.length === 0 ? "" : `; it exports ${listed.join(", ")}`;
  return [`SyntaxError: ${JSON.stringify(from)} has no export ${JSON.stringify(name)}${exports}`, positionOfImport(name, from)];
}

function positionOfImport(name, from) {
  const quoted = (text) => text.replace(/[^\w]/g, "\\$&");
  for (const statement of source.matchAll(new RegExp(`(?:import|export)[^;"']*from\\s*["']${quoted(from)}["']`, "g"))) {
    const at = statement[0].search(new RegExp(`(?<![\\w$])${quoted(name)}(?![\\w$])`));
    if (at < 0) continue;
    const before = source.slice(0, statement.index + at).split("\n");
    return `at ${moduleName}:${before.length}:${before.at(-1).length + 1}`;
  }
  return "";
}

/** Explains why a name of CommonJS is not defined. */
function nameOfCommonJs(error) {
  const found = error instanceof ReferenceError && /^(require|exports|module|__dirname|__filename) is not defined$/.test(error.message);
  if (!found || moduleName === undefined) return "";
  return `: it is a name of CommonJS, but ${moduleName} is an ES module; use import and export`;
}

export function isError(value) {
  return value instanceof Error || (typeof value === "object" && value !== null && typeof value.stack === "string" && "message" in value);
}

/** `TypeError: x is not a function` */
export function headline(error) {
  const name = property(error, "name") || "Error";
  const message = property(error, "message");
  return message === "" ? name : `${name}: ${message}`;
}

function property(error, name) {
  try {
    const value = error[name];
    return value === undefined ? "" : String(value);
  } catch {
    return "";
  }
}

/** The frames of an error, one a line, without the first line that other engines write. */
export function stackOf(error) {
  const lines = property(error, "stack").split("\n");
  return lines.map((line) => correct(line.trim())).filter((line) => line.startsWith("at ") && !line.includes("(jackfield:")).join("\n");
}

function correct(frame) {
  const at = firstLine === undefined ? -1 : frame.indexOf(firstLine);
  if (at < 0) return frame;
  const column = at + firstLine.length;
  return frame.slice(0, column) + frame.slice(column).replace(/^\d+/, (digits) => Math.max(1, digits - native.commonJsHead));
}

/** The causes of an error, and the errors of an AggregateError, with their stacks. */
function causes(error, depth = 0) {
  if (depth > 4) return "";
  const parts = [];
  if (error.cause !== undefined) parts.push(["caused by ", error.cause]);
  if (Array.isArray(error.errors)) for (const one of error.errors.slice(0, 8)) parts.push(["one of: ", one]);
  return parts.map(([label, one]) => {
    if (!isError(one)) return `\n${label}${inspect(one)}`;
    const stack = stackOf(one);
    return `\n${label}${headline(one)}${stack && `\n${stack}`}${causes(one, depth + 1)}`;
  }).join("");
}

function kind(value) {
  if (value === null) return "null";
  if (value === undefined) return "undefined";
  const type = typeof value;
  return type === "object" ? "an object" : `a ${type}`;
}
