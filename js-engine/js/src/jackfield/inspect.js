// Values as text, in the manner of Node's util.inspect.

const KEY = /^[A-Za-z_$][\w$]*$/;

/** Node's symbol for a method that returns how a value is shown. */
export const custom = Symbol.for("nodejs.util.inspect.custom");

const DIRECTIVES = "sdifjoOc";

/** Formats values as `console.log` does: the first may be a string with %s, %d, %i, %f, %j, %o, %O, %c and %%. */
export function format(...values) {
  if (values.length === 1 && typeof values[0] === "string") return values[0];
  let text = "";
  let next = 0;
  if (typeof values[0] === "string") {
    next = 1;
    // A regular expression would take a third of the time of a call.
    const [template] = values;
    let done = 0;
    for (let at = template.indexOf("%"); at >= 0 && at + 1 < template.length; at = template.indexOf("%", at)) {
      const kind = template[at + 1];
      if (kind === "%" || (DIRECTIVES.includes(kind) && next < values.length)) {
        text += template.slice(done, at) + (kind === "%" ? "%" : formatOne(`%${kind}`, values[next++]));
        done = at + 2;
        at = done;
      } else {
        at += DIRECTIVES.includes(kind) ? 2 : 1;
      }
    }
    text += template.slice(done);
  }
  const rest = values.slice(next).map((value) => (typeof value === "string" ? value : inspect(value)));
  return next === 0 ? rest.join(" ") : [text, ...rest].join(" ");
}

function formatOne(directive, value) {
  switch (directive) {
    case "%s":
      return typeof value === "string" ? value : typeof value === "bigint" ? `${value}n` : isPlain(value) ? inspect(value, { depth: 0 }) : String(value);
    case "%d":
      return typeof value === "bigint" ? `${value}n` : typeof value === "symbol" ? "NaN" : String(Number(value));
    case "%i":
      return typeof value === "bigint" ? `${value}n` : typeof value === "symbol" ? "NaN" : String(parseInt(value, 10));
    case "%f":
      return typeof value === "symbol" ? "NaN" : String(parseFloat(value));
    case "%j":
      try {
        return JSON.stringify(value);
      } catch {
        return "[Circular]";
      }
    case "%c":
      return "";
    default:
      return inspect(value, directive === "%o" ? { depth: 4 } : undefined);
  }
}

/** Whether %s shows a value as inspect does: an object without a toString of its own. */
function isPlain(value) {
  if (typeof value !== "object" || value === null) return false;
  return value instanceof Error ? false : value.toString === Object.prototype.toString || Array.isArray(value);
}

/** Returns a value as text. Options are Node's `depth`, `breakLength`, `compact: false`, `maxArrayLength`, `maxStringLength`. */
export function inspect(value, options) {
  const state = {
    depth: options?.depth === null ? Infinity : options?.depth ?? 2,
    breakLength: options?.breakLength ?? 80,
    maxArrayLength: options?.maxArrayLength ?? 100,
    maxStringLength: options?.maxStringLength ?? 10_000,
    seen: [],
    options,
  };
  return show(value, state, 0);
}

function show(value, state, level) {
  switch (typeof value) {
    case "string":
      return level === 0 ? quote(value, state) : quote(value, state);
    case "number":
      return Object.is(value, -0) ? "-0" : String(value);
    case "bigint":
      return `${value}n`;
    case "symbol":
    case "undefined":
    case "boolean":
      return String(value);
    case "function":
    case "object":
      return value === null ? "null" : showObject(value, state, level);
    default:
      return String(value);
  }
}

function quote(text, state) {
  const cut = text.length > state.maxStringLength ? text.slice(0, state.maxStringLength) : text;
  const more = text.length - cut.length;
  const mark = !cut.includes("'") ? "'" : !cut.includes('"') ? '"' : !cut.includes("`") ? "`" : "'";
  const escaped = cut.replace(/[\\\n\r\t\b\f\v\0-\x1f\x7f]/g, (character) => ESCAPES[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, "0").toUpperCase()}`);
  const quoted = mark === "'" ? escaped.replaceAll("'", "\\'") : escaped;
  return `${mark}${quoted}${mark}${more > 0 ? `... ${more} more characters` : ""}`;
}

const ESCAPES = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f", "\v": "\\v" };

function showObject(value, state, level) {
  if (state.seen.includes(value)) return "[Circular]";
  const shown = showCustom(value, state, level);
  if (shown !== undefined) return shown;
  state.seen.push(value);
  try {
    return showParts(value, state, level);
  } catch (error) {
    // A proxy or a getter may throw anything.
    return `[${constructorName(value) ?? "Object"}: cannot be shown]`;
  } finally {
    state.seen.pop();
  }
}

function showCustom(value, state, level) {
  const method = safe(() => value[custom]);
  if (typeof method !== "function") return undefined;
  const depth = state.depth - level;
  const shown = method.call(value, depth, { ...state.options, depth }, inspect);
  return shown === value ? undefined : typeof shown === "string" ? shown : show(shown, state, level);
}

function safe(body) {
  try {
    return body();
  } catch {
    return undefined;
  }
}

function constructorName(value) {
  for (let object = value; object !== null && object !== undefined; object = Object.getPrototypeOf(object)) {
    const descriptor = Object.getOwnPropertyDescriptor(object, "constructor");
    if (descriptor && typeof descriptor.value === "function" && descriptor.value.name) return descriptor.value.name;
  }
  return undefined;
}

function showParts(value, state, level) {
  const name = constructorName(value);
  const tag = safe(() => value[Symbol.toStringTag]);
  const head = describeHead(value, name, tag);
  if (level > state.depth) return tooDeep(value, name);
  const parts = entries(value, state, level);
  for (const key of ownKeys(value)) {
    const shown = showProperty(value, key, state, level);
    if (shown !== undefined) parts.push(shown);
  }
  const [open, close] = Array.isArray(value) || ArrayBuffer.isView(value) && !(value instanceof DataView) ? ["[", "]"] : ["{", "}"];
  if (parts.length === 0) {
    if (head.alone) return head.text;
    return `${head.text && `${head.text} `}${open}${close}`;
  }
  return join(head.text ? `${head.text} ` : "", open, parts, close, state, level);
}

function tooDeep(value, name) {
  return Array.isArray(value) ? "[Array]" : `[${name ?? "Object: null prototype"}]`;
}

/** What stands before the braces, and whether it stands alone if there is nothing between them. */
function describeHead(value, name, tag) {
  if (typeof value === "function") {
    const kind = /^class\b/.test(Function.prototype.toString.call(value)) ? "class" : name ?? "Function";
    return { text: value.name ? `[${kind}${kind === "class" ? " " : ": "}${value.name}]` : `[${kind} (anonymous)]`, alone: true };
  }
  if (value instanceof Error) return { text: showError(value), alone: true };
  if (value instanceof Date) return { text: Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString(), alone: true };
  if (value instanceof RegExp) return { text: String(value), alone: true };
  if (value instanceof Promise) return { text: "Promise", alone: false };
  if (value instanceof String || value instanceof Number || value instanceof Boolean) {
    return { text: `[${name}: ${inspect(value.valueOf())}]`, alone: true };
  }
  if (value instanceof Map || value instanceof Set) return { text: `${name}(${value.size})`, alone: false };
  if (Array.isArray(value)) return { text: name === "Array" ? "" : `${name}(${value.length})`, alone: false };
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return { text: `${name}(${value.length})`, alone: false };
  if (value instanceof ArrayBuffer) return { text: name, alone: false };
  if (name === undefined) return { text: "[Object: null prototype]", alone: false };
  const tagged = typeof tag === "string" && tag !== "" && tag !== name ? ` [${tag}]` : "";
  return { text: name === "Object" ? tagged && `Object${tagged}` : `${name}${tagged}`, alone: false };
}

function showError(error) {
  const name = safe(() => error.name) ?? "Error";
  const message = safe(() => error.message) ?? "";
  const head = message === "" ? String(name) : `${name}: ${message}`;
  const stack = String(safe(() => error.stack) ?? "").split("\n").filter((frame) => /^\s*at /.test(frame) && !frame.includes("(jackfield:"));
  if (stack.length === 0) return `[${head}]`;
  return [head, ...stack.map((frame) => `    ${frame.trim()}`)].join("\n");
}

function entries(value, state, level) {
  if (Array.isArray(value)) return items(value, value.length, state, (index) => (index in value ? show(value[index], state, level + 1) : "<empty item>"));
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return items(value, value.length, state, (index) => show(value[index], state, level + 1));
  if (value instanceof Map) {
    const all = [...Map.prototype.entries.call(value)];
    return items(all, all.length, state, (index) => `${show(all[index][0], state, level + 1)} => ${show(all[index][1], state, level + 1)}`);
  }
  if (value instanceof Set) {
    const all = [...Set.prototype.values.call(value)];
    return items(all, all.length, state, (index) => show(all[index], state, level + 1));
  }
  if (value instanceof ArrayBuffer) {
    const bytes = new Uint8Array(value, 0, Math.min(value.byteLength, 50));
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return [`[Uint8Contents]: <${hex}${value.byteLength > 50 ? ` ... ${value.byteLength - 50} more bytes` : ""}>`, `byteLength: ${value.byteLength}`];
  }
  return [];
}

function items(_, length, state, one) {
  const shown = Math.min(length, state.maxArrayLength);
  const parts = Array.from({ length: shown }, (_, index) => one(index));
  if (length > shown) parts.push(`... ${length - shown} more item${length - shown === 1 ? "" : "s"}`);
  return parts;
}

function ownKeys(value) {
  const isIndexed = Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof String;
  return Reflect.ownKeys(value).filter((key) => {
    const descriptor = Reflect.getOwnPropertyDescriptor(value, key);
    if (value instanceof Error && (key === "cause" || key === "errors")) return true;
    if (!descriptor?.enumerable) return false;
    return !(isIndexed && typeof key === "string" && /^\d+$/.test(key));
  });
}

function showProperty(value, key, state, level) {
  const descriptor = Reflect.getOwnPropertyDescriptor(value, key);
  const label = typeof key === "symbol" ? `[${String(key)}]` : KEY.test(key) ? key : quote(key, state);
  const hidden = descriptor.enumerable ? label : `[${label}]`;
  if (descriptor.get) return `${hidden}: [${descriptor.set ? "Getter/Setter" : "Getter"}]`;
  if (descriptor.set) return `${hidden}: [Setter]`;
  return `${hidden}: ${show(descriptor.value, state, level + 1)}`;
}

/** On one line if it fits, and else one part a line. */
function join(head, open, parts, close, state, level) {
  const length = parts.reduce((sum, part) => sum + part.length + 2, head.length + level * 2);
  const single = !parts.some((part) => part.includes("\n")) && !head.includes("\n");
  if (single && length <= Math.max(state.breakLength - 4, 0) || state.breakLength === Infinity) {
    return open === "[" ? `${head}[ ${parts.join(", ")} ]` : `${head}{ ${parts.join(", ")} }`;
  }
  const indent = "\n" + "  ".repeat(level + 1);
  return `${head}${open}${indent}${parts.join(`,${indent}`)}\n${"  ".repeat(level)}${close}`;
}
