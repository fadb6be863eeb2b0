// `console`: its lines go to the host's log.

import { native } from "../native.js";
import { format, inspect } from "./inspect.js";

const [TRACE, DEBUG, INFO, WARN, ERROR] = [0, 1, 2, 3, 4];

let indent = "";
const counts = new Map();
const timers = new Map();

function write(level, text) {
  native.log.write(level, indent === "" ? text : indent + text.replaceAll("\n", `\n${indent}`));
}

const line = (level) => (...values) => write(level, format(...values));
const milliseconds = (since) => `${(native.clock.monotonic() - since).toFixed(3)}ms`;

globalThis.console = {
  log: line(INFO),
  info: line(INFO),
  debug: line(DEBUG),
  warn: line(WARN),
  error: line(ERROR),
  trace(...values) {
    const stack = new Error().stack.split("\n").slice(1).filter((frame) => !frame.includes("(jackfield:")).join("\n");
    write(TRACE, `Trace: ${format(...values)}\n${stack}`.trimEnd());
  },
  assert(condition, ...values) {
    if (!condition) write(ERROR, values.length === 0 ? "Assertion failed" : `Assertion failed: ${format(...values)}`);
  },
  dir(value, options) {
    write(INFO, inspect(value, options));
  },
  dirxml: line(INFO),
  table(rows) {
    write(INFO, inspect(rows, { depth: 2 }));
  },
  count(label = "default") {
    const count = (counts.get(String(label)) ?? 0) + 1;
    counts.set(String(label), count);
    write(INFO, `${label}: ${count}`);
  },
  countReset(label = "default") {
    counts.delete(String(label));
  },
  group(...values) {
    if (values.length > 0) write(INFO, format(...values));
    indent += "  ";
  },
  groupEnd() {
    indent = indent.slice(2);
  },
  time(label = "default") {
    timers.set(String(label), native.clock.monotonic());
  },
  timeLog(label = "default", ...values) {
    if (timers.has(String(label))) write(INFO, format(`${label}: ${milliseconds(timers.get(String(label)))}`, ...values));
  },
  timeEnd(label = "default") {
    if (timers.has(String(label))) write(INFO, `${label}: ${milliseconds(timers.get(String(label)))}`);
    timers.delete(String(label));
  },
};
console.groupCollapsed = console.group;
