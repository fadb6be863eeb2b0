// The modules `node:timers` and `node:timers/promises`, on the global timers.
import { coded } from "./errors.js";

function aborted(signal) {
  const error = coded(new Error("The operation was aborted", { cause: signal.reason }), "ABORT_ERR");
  error.name = "AbortError";
  return error;
}

/** A promise that `start` settles through its callback; `stop` ends the wait if the signal aborts. */
function wait(signal, start, stop) {
  if (signal === undefined) return new Promise(start);
  if (signal.aborted) return Promise.reject(aborted(signal));
  return new Promise((resolve, reject) => {
    const abort = () => {
      stop(handle);
      reject(aborted(signal));
    };
    signal.addEventListener("abort", abort, { once: true });
    const handle = start((value) => {
      signal.removeEventListener("abort", abort);
      resolve(value);
    });
  });
}

const sleep = (ms, value, options) =>
  wait(options?.signal, (done) => globalThis.setTimeout(done, ms, value), (handle) => globalThis.clearTimeout(handle));

const immediate = (value, options) =>
  wait(options?.signal, (done) => globalThis.setImmediate(done, value), (handle) => globalThis.clearImmediate(handle));

async function* interval(ms, value, options) {
  for (;;) yield await sleep(ms, value, options);
}

export const timersPromises = {
  setTimeout: sleep,
  setImmediate: immediate,
  setInterval: interval,
  scheduler: { wait: (ms, options) => sleep(ms, undefined, options), yield: () => immediate() },
};

export const timers = {
  promises: timersPromises,
  setTimeout: (...args) => globalThis.setTimeout(...args),
  setInterval: (...args) => globalThis.setInterval(...args),
  setImmediate: (...args) => globalThis.setImmediate(...args),
  clearTimeout: (handle) => globalThis.clearTimeout(handle),
  clearInterval: (handle) => globalThis.clearInterval(handle),
  clearImmediate: (handle) => globalThis.clearImmediate(handle),
};

const custom = Symbol.for("nodejs.util.promisify.custom");

/** Lets `util.promisify` return the promise form of the timers. */
export function markPromisified() {
  for (const target of [timers, globalThis]) {
    for (const name of ["setTimeout", "setImmediate"]) {
      if (typeof target[name] !== "function") continue;
      Object.defineProperty(target[name], custom, { value: timersPromises[name], configurable: true });
    }
  }
}
