// The module `node:async_hooks`: `AsyncLocalStorage` and `AsyncResource`.
//
// A *frame* maps each storage to its value; it is never changed, so that one assignment enters or leaves it. QuickJS has no
// notion of an asynchronous context, so a frame is carried along by hand once the first storage exists:
// - `then`, timers, `queueMicrotask` and `nextTick` bind their callbacks to the frame in which they are called;
// - `await` does not call `then`, but reads `constructor` of the promise that it waits for. The getter installed here
//   registers a reaction on the same promise, which runs just before the `await` continues and enters the frame again;
// - `await` of a value that is no promise makes a promise of its own, which the engine reports when it is fulfilled.
// A handler without a storage pays for nothing of this.
import { native } from "../native.js";
import { unavailable } from "./errors.js";
import { context as tickContext } from "./process.js";

let frame;
let installed = false;
/** True while code of this module, and not of the handler, uses a promise. */
let quiet = false;
/** True from a reaction that enters a frame to the fulfilment of that reaction's own promise. */
let restoring = false;
let watched = false;
/** What happens when a promise is fulfilled; see `install`. */
let fulfilled = () => {};

/** Returns a function that calls `callback` in the present frame. */
function bind(callback) {
  if (typeof callback !== "function") return callback;
  const bound = frame;
  return function (...args) {
    const before = frame;
    frame = bound;
    try {
      return callback.apply(this, args);
    } finally {
      frame = before;
    }
  };
}

/** A reaction that does nothing but enter the frame. */
function entering() {
  const bound = frame;
  return () => {
    restoring = true;
    frame = bound;
  };
}

/**
 * Lets the engine report fulfilled promises. It begins when the code that runs now ends, so that it is asked for when a
 * file imports the class, and not when an event makes a storage.
 */
function watch() {
  if (watched) return;
  watched = true;
  native.process.onAsyncContext(
    () => fulfilled(),
    () => {
      frame = undefined;
    },
  );
}

function install() {
  installed = true;
  const prototype = Promise.prototype;
  const { then, finally: settle } = prototype;
  const define = (target, name, value) =>
    Object.defineProperty(target, name, { value, writable: true, configurable: true });

  const quietly = (original) =>
    function (...args) {
      const before = quiet;
      quiet = true;
      try {
        return original.apply(this, args);
      } finally {
        quiet = before;
      }
    };
  const quietThen = quietly(then);
  define(prototype, "then", function (onFulfilled, onRejected) {
    return quietThen.call(this, bind(onFulfilled), bind(onRejected));
  });
  const quietFinally = quietly(settle);
  define(prototype, "finally", function (callback) {
    return quietFinally.call(this, bind(callback));
  });
  define(Promise, "resolve", quietly(Promise.resolve));

  const settled = Promise.resolve();
  fulfilled = () => {
    // The promise of one of the reactions that enter a frame needs none itself.
    if (restoring) restoring = false;
    else quietThen.call(settled, entering());
  };
  Object.defineProperty(prototype, "constructor", {
    configurable: true,
    get() {
      if (!quiet && this !== prototype) {
        const enter = entering();
        quietThen.call(this, enter, enter);
      }
      return Promise;
    },
    set(value) {
      define(this, "constructor", value);
    },
  });

  for (const name of ["setTimeout", "setInterval", "setImmediate", "queueMicrotask"]) {
    const original = globalThis[name];
    if (typeof original !== "function") continue;
    const wrapped = (callback, ...args) => original(bind(callback), ...args);
    Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(original));
    define(globalThis, name, wrapped);
  }
  tickContext.bind = bind;
}

export class AsyncLocalStorage {
  #name;
  #fallback;
  #enabled = true;

  constructor(options) {
    this.#name = options?.name ?? "";
    this.#fallback = options?.defaultValue;
    if (!installed) install();
  }

  static bind(callback) {
    return bind(callback);
  }

  static snapshot() {
    const run = bind((callback, ...args) => callback(...args));
    return run;
  }

  get name() {
    return this.#name;
  }

  run(value, callback, ...args) {
    const before = frame;
    this.enterWith(value);
    try {
      return callback(...args);
    } finally {
      frame = before;
    }
  }

  exit(callback, ...args) {
    return this.run(undefined, callback, ...args);
  }

  enterWith(value) {
    this.#enabled = true;
    frame = new Map(frame).set(this, value);
  }

  getStore() {
    if (!this.#enabled) return undefined;
    return frame !== undefined && frame.has(this) ? frame.get(this) : this.#fallback;
  }

  disable() {
    this.#enabled = false;
  }
}

let resources = 1;

export class AsyncResource {
  #run = bind((callback, thisValue, args) => callback.apply(thisValue, args));
  #id = ++resources;

  constructor(type) {
    this.type = type;
  }

  static bind(callback, type, thisValue) {
    return new AsyncResource(type ?? callback.name ?? "bound").bind(callback, thisValue);
  }

  runInAsyncScope(callback, thisValue, ...args) {
    return this.#run(callback, thisValue, args);
  }

  bind(callback, thisValue) {
    const resource = this;
    return function (...args) {
      return resource.runInAsyncScope(callback, thisValue ?? this, ...args);
    };
  }

  asyncId() {
    return this.#id;
  }

  triggerAsyncId() {
    return 1;
  }

  emitDestroy() {
    return this;
  }
}

export const asyncHooks = {
  get AsyncLocalStorage() {
    watch();
    return AsyncLocalStorage;
  },
  AsyncResource,
  executionAsyncId: () => 1,
  triggerAsyncId: () => 0,
  executionAsyncResource: () => ({}),
  createHook() {
    throw unavailable("async_hooks.createHook", "use AsyncLocalStorage");
  },
};
