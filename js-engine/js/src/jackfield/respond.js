// Checks what a function of a plugin returned.

import { inspect } from "./inspect.js";

/** Returns `[statusCode, fields, body]` of a result that is neither empty nor a string nor a Uint8Array. */
export function respond(result) {
  const body = bytesOf(result);
  if (body !== undefined) return [200, [], body];
  if (typeof result !== "object") throw new TypeError(unexpected(result));
  const keys = Object.keys(result);
  if (!keys.every((key) => key === "statusCode" || key === "headers" || key === "body")) throw new TypeError(unexpected(result));
  return [checkStatus(result.statusCode), fieldsOf(result.headers), checkBody(result.body)];
}

function unexpected(result) {
  return `the handler returned ${short(result)}; it should return nothing, a string, a Uint8Array or { statusCode, headers, body }; use JSON.stringify for JSON`;
}

export function short(value) {
  const text = inspect(value, { depth: 1, breakLength: Infinity });
  return text.length > 100 ? `${text.slice(0, 100)}...` : text;
}

/** The bytes of an ArrayBuffer or of any view of one. */
export function bytesOf(value) {
  if (value instanceof Uint8Array) return value;
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return value instanceof ArrayBuffer ? new Uint8Array(value) : undefined;
}

export function checkStatus(status) {
  if (status === undefined) return 200;
  const number = typeof status === "string" ? Number(status) : status;
  if (Number.isInteger(number) && number >= 100 && number <= 599) return number;
  throw new TypeError(`the statusCode of the response is ${short(status)}; a whole number from 100 to 599 was expected`);
}

function checkBody(body) {
  if (body === undefined || body === null || typeof body === "string") return body;
  const bytes = bytesOf(body);
  if (bytes !== undefined) return bytes;
  throw new TypeError(`the body of the response is ${short(body)}; a string or a Uint8Array was expected; use JSON.stringify for JSON`);
}

/** Names and values in turn, of an object, of a Headers or of a list of pairs. */
export function fieldsOf(headers) {
  if (headers === undefined || headers === null) return [];
  if (typeof headers !== "object") throw new TypeError(`the headers of the response are ${short(headers)}; an object was expected`);
  const pairs = typeof headers[Symbol.iterator] === "function" ? [...headers] : Object.entries(headers);
  return pairs.flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).flatMap((one) => [String(name), String(one)]));
}
