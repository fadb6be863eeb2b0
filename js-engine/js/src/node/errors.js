// Errors with a `code`, as node's modules throw them.

/** Returns `error` with node's `code`. */
export function coded(error, code) {
  return Object.defineProperty(error, "code", { value: code, writable: true, enumerable: true, configurable: true });
}

/** The error for an argument of the wrong type. */
export function invalidType(name, expected, value) {
  const found =
    value === null || value === undefined
      ? ` Received ${value}`
      : typeof value === "function"
        ? ` Received function ${value.name}`
        : typeof value === "object"
          ? ` Received an instance of ${value.constructor?.name ?? "Object"}`
          : ` Received type ${typeof value} (${String(value)})`;
  return coded(new TypeError(`The "${name}" argument must be ${expected}.${found}`), "ERR_INVALID_ARG_TYPE");
}

/** The error for a part of node that a sandboxed handler does not have. */
export function unavailable(name, instead) {
  const advice = instead === undefined ? "" : `; ${instead}`;
  return coded(
    new Error(`${name} is not available in a component handler${advice}`),
    "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM",
  );
}

/** A function that throws `unavailable` when it is called. */
export function missing(name, instead) {
  return () => {
    throw unavailable(name, instead);
  };
}
