// What was thrown, for the log: a message of one line, and the stack apart.

import { inspect } from "./inspect.js";

/** Returns `[message, stack]` of anything that was thrown. */
export function describe(reason) {
  if (!isError(reason)) return [`${kind(reason)} was thrown that is no Error: ${inspect(reason)}`, ""];
  const message = headline(reason);
  return [message, stackOf(reason) + causes(reason)];
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
  return lines.map((line) => line.trim()).filter((line) => line.startsWith("at ") && !line.includes("(jackfield:")).join("\n");
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
