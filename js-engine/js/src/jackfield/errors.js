// What was thrown, for the log: a message of one line, and the stack apart.

import { native } from "../native.js";
import { inspect } from "./inspect.js";

/** The start of a position on the first line of a CommonJS file, whose columns include the head of its function. */
let firstLine;

/** Takes what is to be loaded, so that positions in it can be corrected. */
export function expectFile({ name, format }) {
  firstLine = format === "commonjs" ? `${name}:1:` : undefined;
}

/** Returns `[message, stack]` of anything that was thrown. */
export function describe(reason) {
  try {
    if (!isError(reason)) return [`${kind(reason)} was thrown that is no Error: ${inspect(reason)}`, ""];
    return [headline(reason), stackOf(reason) + causes(reason)];
  } catch {
    // A proxy or a getter of what was thrown throws, too.
    return ["something was thrown that cannot be described", ""];
  }
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
