// Calls for behaviours of the language, which are no functions of the contract.

import { log } from "jackfield";
import { fromHex, toHex } from "./values.js";

export function languageCall(call) {
  switch (call.call) {
    case "language.clock":
      return { ok: Date.now() };
    case "language.random":
      return { ok: toHex(crypto.getRandomValues(new Uint8Array(16))) };
    case "language.print":
      console.log(call.text);
      return "ok";
    case "language.log":
      log[call.level](call.text);
      return "ok";
    case "language.json":
      try {
        return { ok: JSON.stringify(JSON.parse(call.text)) };
      } catch {
        return "invalid";
      }
    case "language.throw":
      throw new Error(call.message);
    case "language.panic":
      return recurse(call.message);
    case "language.loop":
      for (;;);
    case "language.allocate":
      return new Uint8Array(call.bytes).fill(1).length === call.bytes ? "ok" : "failed";
    case "language.binary":
      return { ok: toHex(fromHex(call.hex)) };
    default:
      throw new Error(`no function ${call.call}`);
  }
}

/** Never returns: the stack overflows. */
function recurse(message) {
  return recurse(message) + 1;
}
