// Event, EventTarget, CustomEvent, ErrorEvent and MessageEvent of the DOM standard, for a tree of one node: there is no
// capture phase and no bubbling.

const NONE = 0;
const AT_TARGET = 2;

export class Event {
  #type;
  #bubbles;
  #cancelable;
  #composed;
  /** Set when it is first read, because reading the clock is a call of the host. */
  #timeStamp;
  #target = null;
  #dispatching = false;
  #canceled = false;
  #inPassiveListener = false;
  #stopped = false;
  #stoppedImmediately = false;

  constructor(type, options = undefined) {
    if (arguments.length === 0) throw new TypeError("Event: the argument type is missing");
    this.#type = `${type}`;
    this.#bubbles = Boolean(options?.bubbles);
    this.#cancelable = Boolean(options?.cancelable);
    this.#composed = Boolean(options?.composed);
  }

  get type() { return this.#type; }
  get bubbles() { return this.#bubbles; }
  get cancelable() { return this.#cancelable; }
  get composed() { return this.#composed; }
  get timeStamp() { return (this.#timeStamp ??= performance.now()); }
  get target() { return this.#target; }
  get srcElement() { return this.#target; }
  get currentTarget() { return this.#dispatching ? this.#target : null; }
  get eventPhase() { return this.#dispatching ? AT_TARGET : NONE; }
  get defaultPrevented() { return this.#canceled; }
  get isTrusted() { return false; }
  get returnValue() { return !this.#canceled; }
  set returnValue(value) { if (!value) this.preventDefault(); }
  get cancelBubble() { return this.#stopped; }
  set cancelBubble(value) { if (value) this.#stopped = true; }

  composedPath() { return this.#dispatching ? [this.#target] : []; }
  stopPropagation() { this.#stopped = true; }
  stopImmediatePropagation() { this.#stopped = this.#stoppedImmediately = true; }
  preventDefault() { if (this.#cancelable && !this.#inPassiveListener) this.#canceled = true; }

  /** Calls the listeners of `target`, and returns whether no listener has cancelled the event. */
  static _dispatch(event, target, listeners) {
    if (event.#dispatching) throw new DOMException("The event is already being dispatched", "InvalidStateError");
    event.#target = target;
    event.#dispatching = true;
    try {
      // A copy, because listeners add and remove listeners. One that was removed meanwhile is not called.
      for (const listener of listeners ? [...listeners] : []) {
        if (event.#stoppedImmediately) break;
        if (listener.removed) continue;
        if (listener.once) listener.remove();
        event.#inPassiveListener = listener.passive;
        callListener(listener.callback, target, event);
      }
    } finally {
      event.#inPassiveListener = event.#dispatching = event.#stopped = event.#stoppedImmediately = false;
    }
    return !event.#canceled;
  }
}

for (const [name, value] of [["NONE", 0], ["CAPTURING_PHASE", 1], ["AT_TARGET", 2], ["BUBBLING_PHASE", 3]]) {
  const constant = { value, enumerable: true };
  Object.defineProperty(Event, name, constant);
  Object.defineProperty(Event.prototype, name, constant);
}
tag(Event, "Event");

const dispatch = Event._dispatch;
delete Event._dispatch;

/** Calls a listener. What it throws ends no other listener: it becomes an unhandled rejection, which ends the event. */
function callListener(callback, target, event) {
  try {
    if (typeof callback === "function") callback.call(target, event);
    else callback.handleEvent(event);
  } catch (error) {
    Promise.reject(error);
  }
}

export class EventTarget {
  /** Listeners by type; created by the first listener. */
  #listeners;
  /** Values of the attributes `onTYPE` by type. */
  #handlers;

  addEventListener(type, callback, options = undefined) {
    if (callback === null || callback === undefined) return;
    if (typeof callback !== "function" && typeof callback !== "object") {
      throw new TypeError("EventTarget.addEventListener: the listener is neither a function nor an object");
    }
    const { capture, once, passive, signal } = flags(options);
    if (signal?.aborted) return;
    type = `${type}`;
    this.#listeners ??= new Map();
    let list = this.#listeners.get(type);
    if (!list) this.#listeners.set(type, (list = []));
    if (list.some((other) => other.callback === callback && other.capture === capture)) return;
    const listener = { callback, capture, once, passive, removed: false, remove: () => remove(list, listener) };
    list.push(listener);
    signal?.addEventListener("abort", listener.remove, { once: true });
  }

  removeEventListener(type, callback, options = undefined) {
    const list = this.#listeners?.get(`${type}`);
    const { capture } = flags(options);
    list?.find((other) => other.callback === callback && other.capture === capture)?.remove();
  }

  dispatchEvent(event) {
    if (!(event instanceof Event)) throw new TypeError("EventTarget.dispatchEvent: the argument is not an Event");
    return dispatch(event, this, this.#listeners?.get(event.type));
  }

  /** Defines the attribute `onTYPE` of a class: a listener that keeps its place when its value changes. */
  static _defineHandler(target, type) {
    Object.defineProperty(target, `on${type}`, {
      configurable: true,
      enumerable: true,
      get() { return this.#handlers?.get(type) ?? null; },
      set(value) {
        const callable = typeof value === "function" || (typeof value === "object" && value !== null);
        this.#handlers ??= new Map();
        if (callable && !this.#handlers.has(type)) {
          this.addEventListener(type, function (event) {
            const handler = this[`on${type}`];
            if (typeof handler === "function" && handler.call(this, event) === false) event.preventDefault();
          });
        }
        if (callable || this.#handlers.has(type)) this.#handlers.set(type, callable ? value : null);
      },
    });
  }
}
tag(EventTarget, "EventTarget");

export const defineHandler = EventTarget._defineHandler;
delete EventTarget._defineHandler;

export class CustomEvent extends Event {
  #detail;
  constructor(type, options = undefined) {
    super(type, options);
    this.#detail = options?.detail ?? null;
  }
  get detail() { return this.#detail; }
}
tag(CustomEvent, "CustomEvent");

export class MessageEvent extends Event {
  #init;
  constructor(type, options = undefined) {
    super(type, options);
    this.#init = { ...options };
  }
  get data() { return this.#init.data ?? null; }
  get origin() { return this.#init.origin ?? ""; }
  get lastEventId() { return this.#init.lastEventId ?? ""; }
  get source() { return this.#init.source ?? null; }
  get ports() { return this.#init.ports ?? []; }
}
tag(MessageEvent, "MessageEvent");

export class ErrorEvent extends Event {
  #init;
  constructor(type, options = undefined) {
    super(type, options);
    this.#init = { ...options };
  }
  get message() { return this.#init.message ?? ""; }
  get filename() { return this.#init.filename ?? ""; }
  get lineno() { return this.#init.lineno ?? 0; }
  get colno() { return this.#init.colno ?? 0; }
  get error() { return this.#init.error; }
}
tag(ErrorEvent, "ErrorEvent");

function flags(options) {
  if (typeof options !== "object" || options === null) {
    return { capture: Boolean(options), once: false, passive: false, signal: undefined };
  }
  const { capture, once, passive, signal } = options;
  return { capture: Boolean(capture), once: Boolean(once), passive: Boolean(passive), signal };
}

function remove(list, listener) {
  listener.removed = true;
  const index = list.indexOf(listener);
  if (index >= 0) list.splice(index, 1);
}

/** Sets the name that `Object.prototype.toString` shows for instances of a class. */
export function tag(constructor, name) {
  Object.defineProperty(constructor.prototype, Symbol.toStringTag, { value: name, configurable: true });
}
