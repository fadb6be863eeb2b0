// Strings as the host has them: UTF-8, without lone surrogates.

/** Returns a string with U+FFFD for lone surrogates. */
export function text(value) {
  if (typeof value !== "string") throw new TypeError(`a string was expected, but got ${value === null ? "null" : typeof value}`);
  return value.toWellFormed();
}

export function optionalText(value) {
  return value === undefined || value === null ? undefined : text(value);
}

/** The length of a string or of bytes, in bytes. */
export function bytesIn(value) {
  return typeof value === "string" ? Buffer.byteLength(value) : value.length;
}

/** Compares strings as the host sorts them: by the bytes of their UTF-8. */
export function compare(one, other) {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}
