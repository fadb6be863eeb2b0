// FormData of the XMLHttpRequest standard, and its two encodings in bodies.

import { native } from "../native.js";
import { Blob, File, bytesOf } from "./blob.js";
import { concat, decode, encode } from "./bytes.js";
import { tag } from "./event.js";

export class FormData {
  /** Pairs of a name and a string or a File. */
  #list = [];

  constructor(form = undefined) {
    if (form !== undefined) throw new TypeError("FormData: the argument is not available, because there is no form");
  }

  append(name, value, filename = undefined) {
    requireArguments(arguments, 2, "append");
    this.#list.push([`${name}`.toWellFormed(), entryValue(arguments)]);
  }

  set(name, value, filename = undefined) {
    requireArguments(arguments, 2, "set");
    name = `${name}`.toWellFormed();
    const entry = [name, entryValue(arguments)];
    const index = this.#list.findIndex((other) => other[0] === name);
    if (index < 0) {
      this.#list.push(entry);
    } else {
      this.#list[index] = entry;
      this.#list = this.#list.filter((other, at) => at <= index || other[0] !== name);
    }
  }

  delete(name) {
    name = `${name}`.toWellFormed();
    this.#list = this.#list.filter((entry) => entry[0] !== name);
  }

  get(name) {
    name = `${name}`.toWellFormed();
    return this.#list.find((entry) => entry[0] === name)?.[1] ?? null;
  }

  getAll(name) {
    name = `${name}`.toWellFormed();
    return this.#list.filter((entry) => entry[0] === name).map((entry) => entry[1]);
  }

  has(name) {
    name = `${name}`.toWellFormed();
    return this.#list.some((entry) => entry[0] === name);
  }

  forEach(callback, self = undefined) {
    if (typeof callback !== "function") throw new TypeError("FormData.forEach: the argument is not a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }

  *entries() {
    for (let index = 0; index < this.#list.length; index++) yield [this.#list[index][0], this.#list[index][1]];
  }

  *keys() {
    for (const [name] of this.entries()) yield name;
  }

  *values() {
    for (const [, value] of this.entries()) yield value;
  }
}
Object.defineProperty(FormData.prototype, Symbol.iterator, {
  value: FormData.prototype.entries,
  writable: true,
  configurable: true,
});
tag(FormData, "FormData");

function requireArguments(given, count, name) {
  if (given.length < count) {
    throw new TypeError(`FormData.${name}: ${count} arguments are required, ${given.length} were given`);
  }
}

function entryValue([, value, filename]) {
  if (!(value instanceof Blob)) {
    if (filename !== undefined) throw new TypeError("FormData: a file name is given, but the value is not a Blob");
    return `${value}`.toWellFormed();
  }
  if (value instanceof File && filename === undefined) return value;
  const { type } = value;
  const name = filename === undefined ? "blob" : `${filename}`;
  return new File([value], name, { type, lastModified: value.lastModified });
}

/** Encodes a form as `multipart/form-data`. Returns its bytes and the boundary. */
export function encodeMultipart(form) {
  const digits = () => Math.random().toString(36).slice(2, 12).padEnd(10, "0");
  const boundary = `----formdata-jackfield-${digits()}${digits()}`;
  const chunks = [];
  for (const [name, value] of form) {
    let head = `--${boundary}\r\nContent-Disposition: form-data; name="${escape(name.replace(/\r\n?|\n/g, "\r\n"))}"`;
    if (typeof value === "string") {
      chunks.push(encode(`${head}\r\n\r\n${value.replace(/\r\n?|\n/g, "\r\n")}\r\n`));
    } else {
      head += `; filename="${escape(value.name)}"\r\nContent-Type: ${value.type || "application/octet-stream"}`;
      chunks.push(encode(`${head}\r\n\r\n`), bytesOf(value), encode("\r\n"));
    }
  }
  chunks.push(encode(`--${boundary}--\r\n`));
  return { bytes: concat(chunks), boundary };
}

function escape(text) {
  return text.replace(/\n/g, "%0A").replace(/\r/g, "%0D").replace(/"/g, "%22");
}

/** Parses the body of a request or of a response by its content type. */
export function parseFormData(bytes, contentType) {
  const form = new FormData();
  if (/^application\/x-www-form-urlencoded\s*(;|$)/i.test(contentType)) {
    const flat = native.url.parseQuery(decode(bytes));
    for (let index = 0; index < flat.length; index += 2) form.append(flat[index], flat[index + 1]);
    return form;
  }
  const boundary = /^multipart\/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]+)"|([^\s;]+))/i.exec(contentType);
  if (!boundary) {
    throw new TypeError(`formData: the content type is ${JSON.stringify(contentType)}, not that of a form`);
  }
  parseMultipart(bytes, boundary[1] ?? boundary[2], form);
  return form;
}

function parseMultipart(bytes, boundary, form) {
  const delimiter = encode(`\r\n--${boundary}`);
  // The first delimiter may stand at the very start, without a line break before it.
  const first = delimiter.subarray(2);
  let at = startsWith(bytes, first, 0) ? first.length : indexOf(bytes, delimiter, 0) + delimiter.length;
  if (at < delimiter.length - 2) throw malformed("has no boundary");
  for (;;) {
    if (bytes[at] === 0x2d && bytes[at + 1] === 0x2d) return;
    at = skipLineBreak(bytes, at);
    const headEnd = indexOf(bytes, HEAD_END, at);
    const partEnd = headEnd < 0 ? -1 : indexOf(bytes, delimiter, headEnd + 2);
    if (partEnd < 0) throw malformed("ends within a part");
    addPart(form, decode(bytes.subarray(at, headEnd)), bytes.subarray(Math.min(headEnd + 4, partEnd), partEnd));
    at = partEnd + delimiter.length;
  }
}

const HEAD_END = new Uint8Array([13, 10, 13, 10]);

function addPart(form, head, content) {
  const disposition = /^content-disposition:\s*form-data\s*;(.*)$/im.exec(head)?.[1];
  const name = parameter(disposition, "name");
  if (name === undefined) throw malformed("has a part without a name");
  const filename = parameter(disposition, "filename");
  if (filename === undefined) {
    form.append(name, decode(content));
  } else {
    const type = /^content-type:\s*(.*?)\s*$/im.exec(head)?.[1] ?? "text/plain";
    form.append(name, new File([content], filename, { type }));
  }
}

function parameter(disposition, name) {
  const match = new RegExp(`(?:^|[;\\s])${name}="([^"]*)"`, "i").exec(disposition ?? "");
  return match?.[1].replace(/%0A/gi, "\n").replace(/%0D/gi, "\r").replace(/%22/g, '"');
}

function skipLineBreak(bytes, at) {
  while (bytes[at] === 0x20 || bytes[at] === 0x09) at++;
  if (bytes[at] !== 13 || bytes[at + 1] !== 10) throw malformed("has a boundary without a line break");
  return at + 2;
}

function indexOf(bytes, needle, from) {
  for (let at = bytes.indexOf(needle[0], from); at >= 0; at = bytes.indexOf(needle[0], at + 1)) {
    if (startsWith(bytes, needle, at)) return at;
  }
  return -1;
}

function startsWith(bytes, needle, at) {
  for (let index = 0; index < needle.length; index++) if (bytes[at + index] !== needle[index]) return false;
  return true;
}

function malformed(problem) {
  return new TypeError(`formData: the body ${problem}`);
}
