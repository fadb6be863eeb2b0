// AbortController and AbortSignal of the DOM standard.

import { Event, EventTarget, defineHandler, tag } from "./event.js";

/** Only the functions of this file may construct a signal. */
const INTERNAL = Symbol();

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason = undefined;
  /** Functions of the platform that run before the listeners; `undefined` while there is none. */
  #algorithms;
  /** Signals that were made from this one by `AbortSignal.any`. */
  #dependents;
  /** Signals without a source of their own, of which `AbortSignal.any` has made this one. */
  #sources;

  constructor(internal) {
    if (internal !== INTERNAL) {
      throw new TypeError("AbortSignal has no constructor; use AbortController, AbortSignal.timeout or AbortSignal.any");
    }
    super();
  }

  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }

  throwIfAborted() {
    if (this.#aborted) throw this.#reason;
  }

  static abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    const signal = new AbortSignal(INTERNAL);
    signal.#aborted = true;
    signal.#reason = reason;
    return signal;
  }

  static timeout(milliseconds) {
    const delay = Number(milliseconds);
    if (!(delay >= 0 && delay <= Number.MAX_SAFE_INTEGER)) {
      throw new RangeError(`AbortSignal.timeout: ${milliseconds} is not a number of milliseconds`);
    }
    const signal = new AbortSignal(INTERNAL);
    // No timer waits longer than a signed number of 32 bits says, and no event takes that long.
    const timer = setTimeout(() => {
      abort(signal, new DOMException("The operation was aborted due to timeout", "TimeoutError"));
    }, Math.min(delay, 0x7fffffff));
    // The event does not wait for this timer.
    timer?.unref?.();
    return signal;
  }

  static any(signals) {
    const result = new AbortSignal(INTERNAL);
    const list = [...signals];
    for (const signal of list) {
      if (!(signal instanceof AbortSignal)) throw new TypeError("AbortSignal.any: an element is not an AbortSignal");
    }
    const aborted = list.find((signal) => signal.#aborted);
    if (aborted) return AbortSignal.abort(aborted.#reason);
    result.#sources = new Set();
    for (const signal of list) {
      for (const source of signal.#sources ?? [signal]) {
        result.#sources.add(source);
        (source.#dependents ??= new Set()).add(result);
      }
    }
    return result;
  }

  static _abort(signal, reason) {
    if (signal.#aborted) return;
    // All dependent signals are aborted before the first listener runs, so that every listener sees the same state.
    const aborted = [signal];
    signal.#aborted = true;
    signal.#reason = reason;
    for (const dependent of signal.#dependents ?? []) {
      if (dependent.#aborted) continue;
      dependent.#aborted = true;
      dependent.#reason = reason;
      aborted.push(dependent);
    }
    signal.#dependents = undefined;
    for (const each of aborted) {
      const algorithms = each.#algorithms;
      each.#algorithms = undefined;
      for (const algorithm of algorithms ?? []) algorithm(reason);
      each.dispatchEvent(new Event("abort"));
    }
  }

  /** Calls `algorithm` with the reason when the signal is aborted. Returns a function that takes this back. */
  static _whenAborted(signal, algorithm) {
    if (signal.#aborted) {
      algorithm(signal.#reason);
      return () => {};
    }
    (signal.#algorithms ??= new Set()).add(algorithm);
    return () => signal.#algorithms?.delete(algorithm);
  }
}
tag(AbortSignal, "AbortSignal");
defineHandler(AbortSignal.prototype, "abort");

const abort = AbortSignal._abort;
export const whenAborted = AbortSignal._whenAborted;
delete AbortSignal._abort;
delete AbortSignal._whenAborted;

export class AbortController {
  #signal = new AbortSignal(INTERNAL);

  get signal() { return this.#signal; }

  abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    abort(this.#signal, reason);
  }
}
tag(AbortController, "AbortController");
