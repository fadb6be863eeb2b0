// Checks what the function of an authorizer returned, ours or Lambda's.

import { fieldsOf, short } from "./respond.js";

/** `["allow", principalId, fields]`, `["deny"]` or `["unauthorized"]`, of the result of ours. */
export function respondDecision(result) {
  if (result === false || result === "deny") return ["deny"];
  if (result === "unauthorized") return ["unauthorized"];
  if (typeof result === "object" && result !== null && typeof result.principalId === "string") {
    return ["allow", result.principalId, contextFields(result.context)];
  }
  throw new TypeError(`the authorizer returned ${short(result)}; it should return { principalId, context }, "deny" or "unauthorized"`);
}

/** The context of a grant: strings, numbers and booleans, as API Gateway takes them. */
export function contextFields(context) {
  if (context === undefined || context === null) return [];
  for (const [name, value] of Object.entries(context)) {
    if (!["string", "number", "boolean"].includes(typeof value)) {
      throw new TypeError(`the authorizer's context has ${name}: ${short(value)}; only strings, numbers and booleans are allowed`);
    }
  }
  return fieldsOf(context);
}
