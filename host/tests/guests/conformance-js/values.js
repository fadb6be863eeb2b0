// Values of cases, and the short forms that they are written in: see sdk/conformance/README.md.

/** What every reply begins with, so that a runner can distinguish it from what was posted. */
export const REPLY_PREFIX = "reply ";

/** Longest text in a result; a longer one is replaced by its length, so that every result fits into one message. */
const TEXT_BYTES_MAX = 256;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Parses JSON. Integers that are no safe numbers of JavaScript become bigints. */
export function parse(text) {
  const quoted = text.replace(/("(?:[^"\\]|\\.)*")|-?\d{16,}(?![\d.eE])/g, (found, string) => string ?? `{"bigint":"${found}"}`);
  return JSON.parse(quoted, (name, value) => (typeof value?.bigint === "string" ? BigInt(value.bigint) : value));
}

/** Writes JSON, in which bigints are numbers. */
export function stringify(value) {
  const marked = JSON.stringify(value, (name, field) => (typeof field === "bigint" ? `bigint ${field}` : field));
  return marked.replace(/"bigint (-?\d+)"/g, "$1");
}

/** Writes out `{"repeat": TEXT, "times": N}` and `{"list": ITEM, "times": N}`, wherever they are in a value. */
export function expand(value) {
  if (Array.isArray(value)) return value.map(expand);
  if (typeof value !== "object" || value === null) return value;
  const { repeat, list, times } = value;
  if (times !== undefined && typeof repeat === "string") return repeat.repeat(times);
  if (times !== undefined && list !== undefined) {
    const digits = String(Math.max(0, times - 1)).length;
    return Array.from({ length: times }, (_, index) =>
      expand(mapTexts(list, (text) => text.replaceAll("{n}", String(index).padStart(digits, "0")))));
  }
  return mapFields(value, expand);
}

export function mapTexts(value, map) {
  if (typeof value === "string") return map(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, map));
  return typeof value === "object" && value !== null ? mapFields(value, (field) => mapTexts(field, map)) : value;
}

function mapFields(object, map) {
  return Object.fromEntries(Object.entries(object).map(([name, field]) => [name, map(field)]));
}

/** Replaces each long text by `{"length": BYTES}`. */
export function shortened(value) {
  if (typeof value === "string") {
    const bytes = encoder.encode(value).length;
    return bytes > TEXT_BYTES_MAX ? { length: bytes } : value;
  }
  if (Array.isArray(value)) return value.map(shortened);
  return typeof value === "object" && value !== null ? mapFields(value, shortened) : value;
}

/** Bytes as they are in a result: a text if they are UTF-8, else `{"hex": DIGITS}`. */
export function fromBytes(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    return bytes.length > TEXT_BYTES_MAX ? { length: bytes.length } : { hex: toHex(bytes) };
  }
}

/** Bytes as a case has them: a text, or `{"hex": DIGITS}`. */
export function toBytes(value) {
  return typeof value === "string" ? encoder.encode(value) : fromHex(value.hex);
}

/** A text, or bytes of `{"hex": DIGITS}`. */
export function toPayload(value) {
  return typeof value === "string" ? value : fromHex(value.hex);
}

export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(digits) {
  return Uint8Array.from({ length: digits.length / 2 }, (_, index) => Number.parseInt(digits.slice(2 * index, 2 * index + 2), 16));
}
