// MessageChannel and MessagePort of the HTML standard, within one handler.

import { EventTarget, MessageEvent, defineHandler, tag } from "./event.js";
import { structuredClone } from "./structured-clone.js";

const INTERNAL = Symbol();

export class MessagePort extends EventTarget {
  #other;
  #queue = [];
  #started = false;
  #closed = false;
  /** A port that was transferred: its place was taken by another one. */
  #moved = false;

  constructor(internal) {
    if (internal !== INTERNAL) throw new TypeError("MessagePort has no constructor; use MessageChannel");
    super();
  }

  postMessage(message, options = undefined) {
    const transfer = Array.isArray(options) ? options : options?.transfer ?? [];
    if (transfer.includes(this)) throw new DOMException("A port cannot be sent through itself", "DataCloneError");
    const data = structuredClone(message, { transfer });
    const other = this.#other;
    if (this.#closed || !other) return;
    other.#queue.push(data);
    if (other.#started) other.#deliverLater();
  }

  start() {
    if (this.#started || this.#moved) return;
    this.#started = true;
    for (const _ of this.#queue) this.#deliverLater();
  }

  close() {
    this.#closed = true;
    if (this.#other) this.#other.#closed = true;
  }

  // Node's way to say whether a port keeps the process alive. Here an event ends with its handler.
  ref() {}
  unref() {}

  /** Delivers the first message of the queue in a task of its own, as a timer. */
  #deliverLater() {
    setTimeout(() => {
      if (this.#queue.length > 0) this.dispatchEvent(new MessageEvent("message", { data: this.#queue.shift() }));
    }, 0);
  }

  static _isPort(value) {
    return typeof value === "object" && value !== null && #other in value;
  }

  static _connect(one, two) {
    one.#other = two;
    two.#other = one;
  }

  /** Moves a port to a new one, and returns it. */
  static _move(port) {
    if (port.#moved) throw new DOMException("A port was already transferred", "DataCloneError");
    const moved = new MessagePort(INTERNAL);
    moved.#queue = port.#queue;
    moved.#closed = port.#closed;
    if (port.#other) connect(moved, port.#other);
    port.#moved = port.#closed = true;
    port.#queue = [];
    port.#other = undefined;
    return moved;
  }
}
tag(MessagePort, "MessagePort");
defineHandler(MessagePort.prototype, "messageerror");
defineHandler(MessagePort.prototype, "message");
// A port that has the attribute `onmessage` starts by itself.
const onmessage = Object.getOwnPropertyDescriptor(MessagePort.prototype, "onmessage");
Object.defineProperty(MessagePort.prototype, "onmessage", {
  ...onmessage,
  set(value) {
    onmessage.set.call(this, value);
    this.start();
  },
});

export const isPort = MessagePort._isPort;
export const movePort = MessagePort._move;
const connect = MessagePort._connect;
delete MessagePort._isPort;
delete MessagePort._move;
delete MessagePort._connect;

export class MessageChannel {
  #port1 = new MessagePort(INTERNAL);
  #port2 = new MessagePort(INTERNAL);

  constructor() {
    connect(this.#port1, this.#port2);
  }

  get port1() { return this.#port1; }
  get port2() { return this.#port2; }
}
tag(MessageChannel, "MessageChannel");
