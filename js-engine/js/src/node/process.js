// Node's `process`, as much of it as a handler has: no exit, no signals, no files.
import { isBuiltin, loadBuiltin } from "../builtins.js";
import { env } from "../env.js";
import { native } from "../native.js";

// The version whose built-in modules are offered; packages compare it.
const VERSION = "22.0.0";

let ticks = [];

/** Calls what `nextTick` queued. The engine calls it after each callback, before the promise jobs, and again after them. */
function runTicks() {
  for (let next = 0; next < ticks.length; next++) {
    const { callback, args } = ticks[next];
    try {
      callback(...args);
    } catch (error) {
      // Ends the event, as an exception that nothing catches ends a process.
      Promise.reject(error);
    }
  }
  ticks = [];
}
native.process.onTicks(runTicks, () => {
  ticks = [];
  for (const flush of unfinished) flush();
});

/** What logs the lines without an end that streams have. */
const unfinished = new Set();

/** What `nextTick` wraps its callbacks with while an AsyncLocalStorage exists. */
export const context = { bind: (callback) => callback };

function refused(name) {
  return () => {
    throw Object.assign(
      new Error(`process.${name} is not available: a handler ends when it returns or when its promise settles`),
      { code: "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM" },
    );
  };
}

/** A stream whose lines go to the log of the handler; a line without an end is logged when the code that runs now ends. */
function logStream(fd, log) {
  let line = "";
  const flush = () => {
    unfinished.delete(flush);
    if (line !== "") log(line);
    line = "";
  };
  return {
    fd,
    isTTY: false,
    writable: true,
    columns: 80,
    write(chunk, encoding, callback) {
      const lines = (line + (typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk))).split("\n");
      line = lines.pop();
      for (const each of lines) log(each);
      if (line !== "" && !unfinished.has(flush)) {
        unfinished.add(flush);
        nextTick(flush);
      }
      const done = typeof encoding === "function" ? encoding : callback;
      if (typeof done === "function") nextTick(done);
      return true;
    },
    end(chunk) {
      if (chunk !== undefined) this.write(chunk);
      flush();
    },
    on: () => process.stdout,
    once: () => process.stdout,
    emit: () => false,
    removeListener: () => process.stdout,
    getColorDepth: () => 1,
    hasColors: () => false,
  };
}

function nextTick(callback, ...args) {
  if (typeof callback !== "function") {
    throw Object.assign(new TypeError('The "callback" argument must be of type function'), {
      code: "ERR_INVALID_ARG_TYPE",
    });
  }
  if (ticks.length === 0) native.process.queueTicks();
  ticks.push({ callback: context.bind(callback), args });
}

function hrtime(since) {
  const nanoseconds = hrtime.bigint();
  let seconds = Number(nanoseconds / 1000000000n);
  let rest = Number(nanoseconds % 1000000000n);
  if (since !== undefined) {
    seconds -= since[0];
    rest -= since[1];
    if (rest < 0) [seconds, rest] = [seconds - 1, rest + 1e9];
  }
  return [seconds, rest];
}
hrtime.bigint = () => BigInt(Math.round(globalThis.performance.now() * 1000)) * 1000n;

const none = () => process;
const builtinModule = (name) => (isBuiltin(name) ? loadBuiltin(name) : undefined);

export const process = {
  env,
  title: "node",
  version: `v${VERSION}`,
  versions: { node: VERSION, quickjs: "0.14.0" },
  release: { name: "node" },
  platform: "linux",
  arch: "wasm32",
  argv: ["node", "handler"],
  argv0: "node",
  execArgv: [],
  execPath: "node",
  pid: 1,
  ppid: 0,
  exitCode: undefined,
  features: {},
  config: { target_defaults: {}, variables: {} },
  stdout: undefined,
  stderr: undefined,
  stdin: { fd: 0, isTTY: false, on: none, once: none, read: () => null },
  nextTick,
  hrtime,
  uptime: () => globalThis.performance.now() / 1000,
  cwd: () => "/",
  umask: () => 0o22,
  memoryUsage() {
    const bytes = native.process.memoryBytes();
    return { rss: bytes, heapTotal: bytes, heapUsed: bytes, external: 0, arrayBuffers: 0 };
  },
  cpuUsage() {
    return { user: Math.round(globalThis.performance.now() * 1000), system: 0 };
  },
  resourceUsage: () => ({ maxRSS: 0 }),
  emitWarning(warning, type) {
    const name = typeof type === "string" ? type : (type?.type ?? "Warning");
    console.warn(warning instanceof Error ? String(warning) : `${name}: ${warning}`);
  },
  // Nothing of what these wait for happens in a handler: signals, exit, uncaught errors.
  on: none,
  once: none,
  off: none,
  addListener: none,
  removeListener: none,
  removeAllListeners: none,
  prependListener: none,
  setMaxListeners: none,
  emit: () => false,
  listeners: () => [],
  listenerCount: () => 0,
  eventNames: () => [],
  getuid: () => 0,
  geteuid: () => 0,
  getgid: () => 0,
  getegid: () => 0,
  exit: refused("exit"),
  abort: refused("abort"),
  kill: refused("kill"),
  chdir: refused("chdir"),
  binding: refused("binding"),
  dlopen: refused("dlopen"),
  getBuiltinModule: (name) => builtinModule(name),
};
Object.defineProperty(process, Symbol.toStringTag, { value: "process", configurable: true });
process.memoryUsage.rss = () => process.memoryUsage().rss;
process.stdout = logStream(1, (line) => console.log(line));
process.stderr = logStream(2, (line) => console.error(line));
