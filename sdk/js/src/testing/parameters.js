// The limit of the parameters of a host call.

import { trap } from "./double.js";
import { CALL_BYTES_MAX, ELEMENT_BYTES } from "./limits.js";
import { bytesIn } from "./text.js";

/** Traps, as the real host does, if the parameters of a call have too many bytes. */
export function checkParameters(bytes) {
  if (bytes > CALL_BYTES_MAX) {
    trap(`the parameters of the call have ${bytes} bytes, and those of one call have at most ${CALL_BYTES_MAX}`);
  }
}

export function textsBytes(texts) {
  return texts.reduce((sum, text) => sum + bytesIn(text) + ELEMENT_BYTES, 0);
}

export function pairsBytes(pairs) {
  return pairs.reduce((sum, [name, value]) => sum + bytesIn(name) + bytesIn(value) + 2 * ELEMENT_BYTES, 0);
}
