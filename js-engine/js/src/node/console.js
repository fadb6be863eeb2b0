// The module `node:console`: the global console, and the class for consoles that write to a stream.
import { format, inspect } from "./util.js";

class Console {
  #out;
  #error;
  #indent = "";
  #counts = new Map();

  constructor(stdout, stderr) {
    const options = stdout?.stdout === undefined ? { stdout, stderr } : stdout;
    this.#out = options.stdout;
    this.#error = options.stderr ?? options.stdout;
    for (const name of ["log", "info", "debug"]) this[name] = (...args) => this.#write(this.#out, args);
    for (const name of ["warn", "error", "trace"]) this[name] = (...args) => this.#write(this.#error, args);
  }

  #write(stream, args) {
    const lines = format(...args).split("\n");
    stream.write(`${lines.map((line) => this.#indent + line).join("\n")}\n`);
  }

  dir(value, options) {
    this.log(inspect(value, { customInspect: false, ...options }));
  }

  table(value) {
    this.log(value);
  }

  group(...args) {
    if (args.length > 0) this.log(...args);
    this.#indent += "  ";
  }

  groupEnd() {
    this.#indent = this.#indent.slice(2);
  }

  count(label = "default") {
    this.#counts.set(label, (this.#counts.get(label) ?? 0) + 1);
    this.log(`${label}: ${this.#counts.get(label)}`);
  }

  countReset(label = "default") {
    this.#counts.delete(label);
  }

  assert(value, ...args) {
    if (!value) this.error("Assertion failed", ...args);
  }
}

/** The module: the console's own methods, and `Console`. */
export function consoleModule() {
  const methods = Object.create(globalThis.console ?? null);
  methods.Console = Console;
  return methods;
}
