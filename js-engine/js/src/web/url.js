// URL and URLSearchParams of the URL standard. The crate `url` parses and serializes.

import { native } from "../native.js";
import { tag } from "./event.js";

const { parse, set, parseQuery, serializeQuery } = native.url;

// Indices into the parts that the native functions return.
const HREF = 0;
const PROTOCOL = 1;
const USERNAME = 2;
const PASSWORD = 3;
const HOST = 4;
const HOSTNAME = 5;
const PORT = 6;
const PATHNAME = 7;
const SEARCH = 8;
const HASH = 9;
const ORIGIN = 10;

/** Converts a value to a string without lone surrogates, as the Web IDL type USVString. */
export function usv(value) {
  return `${value}`.toWellFormed();
}

function invalid(input, base) {
  const error = new TypeError(`Invalid URL: ${JSON.stringify(input)}${base === undefined ? "" : ` with the base ${JSON.stringify(base)}`}`);
  error.code = "ERR_INVALID_URL";
  error.input = input;
  if (base !== undefined) error.base = base;
  return error;
}

export class URL {
  #parts;
  #params;

  constructor(input, base = undefined) {
    if (arguments.length === 0) throw new TypeError("URL: the argument url is missing");
    input = usv(input);
    if (base !== undefined) base = usv(base);
    this.#parts = parse(input, base);
    if (!this.#parts) throw invalid(input, base);
  }

  static canParse(input, base = undefined) {
    return Boolean(parse(usv(input), base === undefined ? undefined : usv(base)));
  }

  static parse(input, base = undefined) {
    return URL.canParse(input, base) ? new URL(input, base) : null;
  }

  static createObjectURL() {
    throw new Error("URL.createObjectURL is not available in a handler; pass the Blob itself");
  }

  static revokeObjectURL() {}

  get href() { return this.#parts[HREF]; }
  set href(value) {
    value = usv(value);
    const parts = parse(value, undefined);
    if (!parts) throw invalid(value);
    this.#parts = parts;
    this.#updateParams();
  }
  get origin() { return this.#parts[ORIGIN]; }
  get protocol() { return this.#parts[PROTOCOL]; }
  set protocol(value) { this.#set(PROTOCOL, value); }
  get username() { return this.#parts[USERNAME]; }
  set username(value) { this.#set(USERNAME, value); }
  get password() { return this.#parts[PASSWORD]; }
  set password(value) { this.#set(PASSWORD, value); }
  get host() { return this.#parts[HOST]; }
  set host(value) { this.#set(HOST, value); }
  get hostname() { return this.#parts[HOSTNAME]; }
  set hostname(value) { this.#set(HOSTNAME, value); }
  get port() { return this.#parts[PORT]; }
  set port(value) { this.#set(PORT, value); }
  get pathname() { return this.#parts[PATHNAME]; }
  set pathname(value) { this.#set(PATHNAME, value); }
  get search() { return this.#parts[SEARCH]; }
  set search(value) {
    this.#set(SEARCH, value);
    this.#updateParams();
  }
  get hash() { return this.#parts[HASH]; }
  set hash(value) { this.#set(HASH, value); }

  get searchParams() {
    return (this.#params ??= paramsOf(this.#parts[SEARCH], (query) => this.#set(SEARCH, query)));
  }

  toString() { return this.#parts[HREF]; }
  toJSON() { return this.#parts[HREF]; }

  #set(part, value) {
    this.#parts = set(this.#parts[HREF], part, usv(value)) ?? this.#parts;
  }

  #updateParams() {
    if (this.#params) replaceParams(this.#params, this.#parts[SEARCH]);
  }
}
enumerable(URL, ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search",
  "searchParams", "hash", "toString", "toJSON"]);
tag(URL, "URL");

export class URLSearchParams {
  /** Pairs of name and value. */
  #list = [];
  /** Called with the new query after each change, if the parameters belong to a URL. */
  #changed;

  constructor(init = "") {
    if (init === null) init = "null";
    if (typeof init === "object" || typeof init === "function") {
      if (init instanceof URLSearchParams && init[Symbol.iterator] === URLSearchParams.prototype[Symbol.iterator]) {
        this.#list = init.#list.map(([name, value]) => [name, value]);
      } else if (init[Symbol.iterator] !== undefined && init[Symbol.iterator] !== null) {
        for (const pair of init) {
          const [name, value, ...rest] = typeof pair === "object" && pair !== null ? pair : [];
          if (value === undefined || rest.length > 0) {
            throw new TypeError("URLSearchParams: an element is not a pair of name and value");
          }
          this.#list.push([usv(name), usv(value)]);
        }
      } else {
        const names = new Map();
        for (const name of Reflect.ownKeys(init)) {
          if (Object.prototype.propertyIsEnumerable.call(init, name)) names.set(usv(name), usv(init[name]));
        }
        this.#list = [...names];
      }
    } else {
      const query = usv(init);
      this.#list = pairs(query.startsWith("?") ? query.slice(1) : query);
    }
  }

  get size() { return this.#list.length; }

  append(name, value) {
    requireArguments(arguments, 2, "append");
    this.#list.push([usv(name), usv(value)]);
    this.#update();
  }

  delete(name, value = undefined) {
    requireArguments(arguments, 1, "delete");
    name = usv(name);
    if (value !== undefined) value = usv(value);
    this.#list = this.#list.filter((pair) => pair[0] !== name || (value !== undefined && pair[1] !== value));
    this.#update();
  }

  get(name) {
    requireArguments(arguments, 1, "get");
    name = usv(name);
    for (const pair of this.#list) if (pair[0] === name) return pair[1];
    return null;
  }

  getAll(name) {
    requireArguments(arguments, 1, "getAll");
    name = usv(name);
    return this.#list.filter((pair) => pair[0] === name).map((pair) => pair[1]);
  }

  has(name, value = undefined) {
    requireArguments(arguments, 1, "has");
    name = usv(name);
    if (value !== undefined) value = usv(value);
    return this.#list.some((pair) => pair[0] === name && (value === undefined || pair[1] === value));
  }

  set(name, value) {
    requireArguments(arguments, 2, "set");
    name = usv(name);
    value = usv(value);
    const first = this.#list.find((pair) => pair[0] === name);
    if (first) {
      first[1] = value;
      this.#list = this.#list.filter((pair) => pair === first || pair[0] !== name);
    } else {
      this.#list.push([name, value]);
    }
    this.#update();
  }

  sort() {
    this.#list.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#update();
  }

  forEach(callback, self = undefined) {
    if (typeof callback !== "function") throw new TypeError("URLSearchParams.forEach: the argument is not a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }

  // The list is read at each step, because a loop may change it.
  *entries() {
    for (let index = 0; index < this.#list.length; index++) yield [this.#list[index][0], this.#list[index][1]];
  }

  *keys() {
    for (let index = 0; index < this.#list.length; index++) yield this.#list[index][0];
  }

  *values() {
    for (let index = 0; index < this.#list.length; index++) yield this.#list[index][1];
  }

  toString() {
    return this.#list.length === 0 ? "" : serializeQuery(this.#list.flat());
  }

  #update() {
    this.#changed?.(this.toString());
  }

  static _of(query, changed) {
    const params = new URLSearchParams(query);
    params.#changed = changed;
    return params;
  }

  static _replace(params, query) {
    params.#list = pairs(query.slice(1));
  }
}
Object.defineProperty(URLSearchParams.prototype, Symbol.iterator, {
  value: URLSearchParams.prototype.entries,
  writable: true,
  configurable: true,
});
enumerable(URLSearchParams, ["append", "delete", "get", "getAll", "has", "set", "sort", "forEach", "entries", "keys",
  "values", "toString", "size"]);
tag(URLSearchParams, "URLSearchParams");

const paramsOf = URLSearchParams._of;
const replaceParams = URLSearchParams._replace;
delete URLSearchParams._of;
delete URLSearchParams._replace;

function pairs(query) {
  if (query === "") return [];
  const flat = parseQuery(query);
  const list = [];
  for (let index = 0; index < flat.length; index += 2) list.push([flat[index], flat[index + 1]]);
  return list;
}

function requireArguments(given, count, name) {
  if (given.length < count) {
    throw new TypeError(`URLSearchParams.${name}: ${count} arguments are required, ${given.length} were given`);
  }
}

/** Makes members of a class enumerable, as those of every interface of the web are. */
function enumerable(constructor, names) {
  for (const name of names) {
    const member = Object.getOwnPropertyDescriptor(constructor.prototype, name);
    Object.defineProperty(constructor.prototype, name, { ...member, enumerable: true });
  }
}
