// The module `node:events`: npm's `events`, with what it lacks of node's.
import EventEmitter from "events/";
import { coded, invalidType } from "./errors.js";

const once = EventEmitter.once;
const errorMonitor = Symbol("events.errorMonitor");
const captureRejectionSymbol = Symbol.for("nodejs.rejection");

const emit = EventEmitter.prototype.emit;
EventEmitter.prototype.emit = function (name, ...args) {
  // Observers of errors are called before the listeners, also where there is no listener.
  if (name === "error" && this._events?.[errorMonitor] !== undefined) emit.call(this, errorMonitor, ...args);
  return emit.call(this, name, ...args);
};

function signalled(signal, reject) {
  const abort = () => {
    const error = coded(new Error("The operation was aborted", { cause: signal.reason }), "ABORT_ERR");
    error.name = "AbortError";
    reject(error);
  };
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return () => signal.removeEventListener("abort", abort);
}

/** A promise of the next event's arguments. */
EventEmitter.once = function (emitter, name, options) {
  if (options?.signal === undefined) return once(emitter, name);
  return new Promise((resolve, reject) => {
    const release = signalled(options.signal, reject);
    once(emitter, name).then(resolve, reject).finally(release);
  });
};

/** An async iterator of the arguments of each event. */
EventEmitter.on = function (emitter, name, options) {
  const arrived = [];
  const waiting = [];
  let failure;
  let ended = false;
  const add = emitter.on?.bind(emitter) ?? emitter.addEventListener.bind(emitter);
  const remove = emitter.off?.bind(emitter) ?? emitter.removeEventListener.bind(emitter);
  const listener = (...args) => {
    const taker = waiting.shift();
    if (taker) taker.resolve({ value: args, done: false });
    else arrived.push(args);
  };
  const fail = (error) => {
    const taker = waiting.shift();
    if (taker) taker.reject(error);
    else failure = error;
    iterator.return();
  };
  const iterator = {
    next() {
      if (arrived.length > 0) return Promise.resolve({ value: arrived.shift(), done: false });
      if (failure !== undefined) {
        const error = failure;
        failure = undefined;
        return Promise.reject(error);
      }
      if (ended) return Promise.resolve({ value: undefined, done: true });
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
    return() {
      ended = true;
      remove(name, listener);
      if (name !== "error") remove("error", fail);
      for (const taker of waiting.splice(0)) taker.resolve({ value: undefined, done: true });
      return Promise.resolve({ value: undefined, done: true });
    },
    throw(error) {
      fail(error);
      return Promise.resolve({ value: undefined, done: true });
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
  add(name, listener);
  if (name !== "error") add("error", fail);
  if (options?.signal !== undefined) signalled(options.signal, fail);
  for (const end of options?.close ?? []) add(end, () => iterator.return());
  return iterator;
};

EventEmitter.getEventListeners = (emitter, name) => emitter.listeners?.(name) ?? [];
EventEmitter.getMaxListeners = (emitter) => emitter.getMaxListeners?.() ?? EventEmitter.defaultMaxListeners;
EventEmitter.setMaxListeners = function (count = EventEmitter.defaultMaxListeners, ...emitters) {
  if (emitters.length === 0) EventEmitter.defaultMaxListeners = count;
  for (const emitter of emitters) emitter.setMaxListeners?.(count);
};
EventEmitter.addAbortListener = function (signal, listener) {
  if (typeof listener !== "function") throw invalidType("listener", "of type function", listener);
  if (signal.aborted) queueMicrotask(() => listener());
  else signal.addEventListener("abort", listener, { once: true });
  return { [Symbol.dispose ?? Symbol.for("Symbol.dispose")]: () => signal.removeEventListener("abort", listener) };
};
EventEmitter.listenerCount = (emitter, name) => emitter.listenerCount(name);
EventEmitter.errorMonitor = errorMonitor;
EventEmitter.captureRejectionSymbol = captureRejectionSymbol;
EventEmitter.captureRejections = false;
EventEmitter.usingDomains = false;
EventEmitter.EventEmitter = EventEmitter;

export default EventEmitter;
export { EventEmitter };
