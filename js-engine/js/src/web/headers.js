// Headers of the Fetch standard.

import { tag } from "./event.js";

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[^\0\r\n\u0100-\uffff]*$/;
const OUTER_SPACE = /^[\t\r\n ]+|[\t\r\n ]+$/g;
const COOKIE = "set-cookie";

export class Headers {
  /** Values by the name in lower case, in the order in which the names were first set. */
  #values = new Map();
  #immutable = false;

  constructor(init = undefined) {
    if (init === undefined) return;
    if (typeof init !== "object" || init === null) throw new TypeError("Headers: the argument is not an object");
    fill(this, init);
  }

  append(name, value) {
    name = this.#check(name, "append");
    value = normalValue(value, name);
    const values = this.#values.get(name);
    if (values) values.push(value);
    else this.#values.set(name, [value]);
  }

  set(name, value) {
    name = this.#check(name, "set");
    this.#values.set(name, [normalValue(value, name)]);
  }

  delete(name) {
    this.#values.delete(this.#check(name, "delete"));
  }

  get(name) {
    const values = this.#values.get(normalName(name));
    return values === undefined ? null : values.length === 1 ? values[0] : values.join(", ");
  }

  has(name) {
    return this.#values.has(normalName(name));
  }

  getSetCookie() {
    return [...(this.#values.get(COOKIE) ?? [])];
  }

  forEach(callback, self = undefined) {
    if (typeof callback !== "function") throw new TypeError("Headers.forEach: the argument is not a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }

  *entries() {
    for (const [name, value] of this.#sorted()) yield [name, value];
  }

  *keys() {
    for (const [name] of this.#sorted()) yield name;
  }

  *values() {
    for (const [, value] of this.#sorted()) yield value;
  }

  #check(name, method) {
    if (this.#immutable) throw new TypeError(`Headers.${method}: these headers are immutable`);
    return normalName(name);
  }

  #sorted() {
    const list = [];
    for (const name of [...this.#values.keys()].sort()) {
      if (name === COOKIE) for (const value of this.#values.get(name)) list.push([name, value]);
      else list.push([name, this.get(name)]);
    }
    return list;
  }

  static _ofFlat(flat) {
    const headers = new Headers();
    for (let index = 0; index + 1 < flat.length; index += 2) {
      const name = flat[index].toLowerCase();
      const values = headers.#values.get(name);
      if (values) values.push(flat[index + 1]);
      else headers.#values.set(name, [flat[index + 1]]);
    }
    return headers;
  }

  static _toFlat(headers) {
    const flat = [];
    for (const [name, values] of headers.#values) for (const value of values) flat.push(name, value);
    return flat;
  }

  static _makeImmutable(headers) {
    headers.#immutable = true;
    return headers;
  }
}
Object.defineProperty(Headers.prototype, Symbol.iterator, {
  value: Headers.prototype.entries,
  writable: true,
  configurable: true,
});
tag(Headers, "Headers");

/** Makes Headers of a flat list of names and values that come from the host, without checking them again. */
export const headersOfFlat = Headers._ofFlat;
/** Returns a flat list of names and values, a name with several values several times. */
export const headersToFlat = Headers._toFlat;
export const makeImmutable = Headers._makeImmutable;
delete Headers._ofFlat;
delete Headers._toFlat;
delete Headers._makeImmutable;

/** Adds what a constructor was given: other headers, pairs, or an object. */
function fill(headers, init) {
  const iterator = init[Symbol.iterator];
  if (iterator === undefined || iterator === null) {
    for (const name of Reflect.ownKeys(init)) {
      if (Object.prototype.propertyIsEnumerable.call(init, name)) headers.append(name, init[name]);
    }
    return;
  }
  for (const pair of init) {
    const [name, value, ...rest] = typeof pair === "object" && pair !== null ? pair : [];
    if (value === undefined || rest.length > 0) throw new TypeError("Headers: an element is not a pair of name and value");
    headers.append(name, value);
  }
}

function normalName(name) {
  if (typeof name === "symbol") throw new TypeError("Headers: a symbol is not a header name");
  name = `${name}`;
  if (!NAME.test(name)) throw new TypeError(`Headers: ${JSON.stringify(name)} is not a valid header name`);
  return name.toLowerCase();
}

function normalValue(value, name) {
  value = `${value}`.replace(OUTER_SPACE, "");
  // The value is not in the message, because it may be a secret.
  if (!VALUE.test(value)) throw new TypeError(`Headers: the value of ${name} has characters that a header cannot have`);
  return value;
}
