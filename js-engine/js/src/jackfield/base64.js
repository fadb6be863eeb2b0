// Base64 of a response body.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Returns the bytes; undefined if the text is not base64 with its padding. */
export function decodeBase64(text) {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  const length = (text.length / 4) * 3 - (text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0);
  const bytes = new Uint8Array(length);
  let [bits, count, next] = [0, 0, 0];
  for (const digit of text) {
    if (digit === "=") break;
    bits = (bits << 6) | DIGITS.indexOf(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes[next++] = (bits >> count) & 255;
    }
  }
  return bytes;
}
