// Timers that really wait. The engine's event loop knows when the first one is due, and calls `runTimer` then.

import { native } from "../native.js";

const { now, wake } = native.timers;

let timers = []; // in the order in which they are due
let immediates = [];
let next = 1;

/** What setTimeout returns, as in Node: an object that can be used as a number. */
class Timeout {
  #id;
  constructor(callback, args, delay, repeats) {
    this.#id = next++;
    this.callback = callback;
    this.args = args;
    this.delay = delay;
    this.repeats = repeats;
    this.isReferenced = true;
    this.isPending = false;
    for (const name of ["callback", "args", "delay", "repeats", "isReferenced", "isPending", "due"]) {
      Object.defineProperty(this, name, { enumerable: false, writable: true });
    }
  }
  get id() {
    return this.#id;
  }
  ref() {
    this.isReferenced = true;
    update();
    return this;
  }
  unref() {
    this.isReferenced = false;
    update();
    return this;
  }
  hasRef() {
    return this.isReferenced;
  }
  refresh() {
    if (this.isPending) {
      remove(this);
      start(this);
    }
    return this;
  }
  close() {
    stop(this);
    return this;
  }
  [Symbol.toPrimitive]() {
    return this.#id;
  }
  [Symbol.dispose]() {
    stop(this);
  }
}

function start(timer) {
  timer.due = now() + timer.delay;
  timer.isPending = true;
  let index = timers.length;
  while (index > 0 && timers[index - 1].due > timer.due) index--;
  timers.splice(index, 0, timer);
  update();
}

function remove(timer) {
  const index = timers.indexOf(timer);
  if (index >= 0) timers.splice(index, 1);
  const immediate = immediates.indexOf(timer);
  if (immediate >= 0) immediates.splice(immediate, 1);
  timer.isPending = false;
}

function stop(timer) {
  if (!timer.isPending) return;
  remove(timer);
  update();
}

function update() {
  let referenced = 0;
  for (const timer of timers) if (timer.isReferenced) referenced++;
  for (const timer of immediates) if (timer.isReferenced) referenced++;
  wake(immediates.length > 0 ? 0 : timers.length > 0 ? timers[0].due : -1, referenced);
}

/** Runs the first timer that is due. */
export function runTimer() {
  const isDue = timers.length > 0 && timers[0].due <= now();
  // A timer that is due runs before an immediate, but not twice before it.
  const timer = isDue && !(immediates.length > 0 && immediates[0].mayOvertake) ? timers[0] : immediates[0];
  if (timer === undefined) return update();
  if (timer !== immediates[0] && immediates.length > 0) immediates[0].mayOvertake = true;
  remove(timer);
  if (timer.repeats) start(timer);
  update();
  timer.callback.apply(timer, timer.args);
}

export function clearTimers() {
  timers = [];
  immediates = [];
}

/** The range of delays that Node takes; others become 1 ms. */
function milliseconds(delay) {
  const number = Number(delay);
  return number >= 1 && number <= 2 ** 31 - 1 ? number : 1;
}

function check(callback, name) {
  if (typeof callback !== "function") throw new TypeError(`${name} expects a function, but got ${callback === null ? "null" : typeof callback}`);
}

export function setTimeout(callback, delay, ...args) {
  check(callback, "setTimeout");
  const timer = new Timeout(callback, args, milliseconds(delay), false);
  start(timer);
  return timer;
}

export function setInterval(callback, delay, ...args) {
  check(callback, "setInterval");
  const timer = new Timeout(callback, args, milliseconds(delay), true);
  start(timer);
  return timer;
}

export function setImmediate(callback, ...args) {
  check(callback, "setImmediate");
  const timer = new Timeout(callback, args, 0, false);
  now(); // Refuses while a file is loaded.
  timer.isPending = true;
  immediates.push(timer);
  update();
  return timer;
}

/** Takes what setTimeout returned, or its number. */
export function clearTimeout(timer) {
  if (timer instanceof Timeout) return stop(timer);
  if (typeof timer !== "number" && typeof timer !== "string") return;
  const id = Number(timer);
  const found = timers.find((one) => one.id === id) ?? immediates.find((one) => one.id === id);
  if (found) stop(found);
}

export function queueMicrotask(callback) {
  check(callback, "queueMicrotask");
  // An exception of the callback becomes an unhandled rejection, which ends the event as an uncaught exception does.
  Promise.resolve().then(() => void callback());
}

Object.assign(globalThis, {
  setTimeout, setInterval, setImmediate, clearTimeout, clearInterval: clearTimeout, clearImmediate: clearTimeout, queueMicrotask,
});
