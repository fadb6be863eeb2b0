// `performance` of the High Resolution Time and User Timing standards.

import { native } from "../native.js";
import { EventTarget, tag } from "./event.js";
import { structuredClone } from "./structured-clone.js";

/** Returns the milliseconds since 1970, with fractions. While a file is loaded, the time stands still. */
const { unix } = native.clock;

/** When time began: at the first use, in the file's top level or in an instance. */
let origin;
let last = 0;

class PerformanceEntry {
  constructor(entryType, name, startTime, duration, detail) {
    Object.assign(this, { name, entryType, startTime, duration, detail });
  }

  toJSON() {
    return { ...this };
  }
}
tag(PerformanceEntry, "PerformanceEntry");

class Performance extends EventTarget {
  #entries = [];

  get timeOrigin() {
    return (origin ??= Math.floor(unix()));
  }

  now() {
    // The clock of the host may be set back, but this one never goes back.
    return (last = Math.max(unix() - this.timeOrigin, last));
  }

  mark(name, options = undefined) {
    return this.#add("mark", name, options?.startTime ?? this.now(), 0, options?.detail);
  }

  measure(name, start = undefined, end = undefined) {
    const options = typeof start === "object" && start !== null ? start : { start, end };
    const to = options.end === undefined && options.duration !== undefined
      ? this.#time(options.start) + options.duration
      : options.end === undefined ? this.now() : this.#time(options.end);
    const from = options.start === undefined && options.duration !== undefined
      ? to - options.duration
      : this.#time(options.start);
    return this.#add("measure", name, from, to - from, options.detail);
  }

  clearMarks(name = undefined) {
    this.#clear("mark", name);
  }

  clearMeasures(name = undefined) {
    this.#clear("measure", name);
  }

  getEntries() {
    return this.#entries.toSorted((a, b) => a.startTime - b.startTime);
  }

  getEntriesByName(name, type = undefined) {
    return this.getEntries().filter((entry) => entry.name === name && (type === undefined || entry.entryType === type));
  }

  getEntriesByType(type) {
    return this.getEntries().filter((entry) => entry.entryType === type);
  }

  toJSON() {
    return { timeOrigin: this.timeOrigin };
  }

  #add(type, name, startTime, duration, detail) {
    const entry = new PerformanceEntry(type, `${name}`, startTime, duration, detail === undefined ? null : structuredClone(detail));
    this.#entries.push(entry);
    return entry;
  }

  #clear(type, name) {
    this.#entries = this.#entries.filter((entry) => entry.entryType !== type || (name !== undefined && entry.name !== `${name}`));
  }

  #time(mark) {
    if (mark === undefined) return 0;
    if (typeof mark === "number") return mark;
    const entry = this.#entries.findLast((other) => other.entryType === "mark" && other.name === `${mark}`);
    if (!entry) throw new DOMException(`performance.measure: there is no mark ${JSON.stringify(`${mark}`)}`, "SyntaxError");
    return entry.startTime;
  }
}
tag(Performance, "Performance");

export const performance = new Performance();
export { Performance, PerformanceEntry };
