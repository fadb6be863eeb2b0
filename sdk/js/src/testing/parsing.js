// What the test double parses as the real host does: query strings, and the route that a message selects.

/** How deep JSON may be nested for the host to read it. */
const DEPTH_MAX = 127;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Parses a query string such as `?a=1&b=2` and decodes its percent-encoding. */
export function queryFields(query) {
  const pairs = query.replace(/^\?/, "").split("&").filter((pair) => pair !== "");
  return pairs.map((pair) => {
    const at = pair.indexOf("=");
    return (at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)]).map(percentDecode);
  });
}

function percentDecode(encoded) {
  const bytes = Buffer.from(encoded.replaceAll("+", " "));
  const decoded = [];
  for (let index = 0; index < bytes.length; index++) {
    const digits = bytes[index] === 0x25 ? bytes.toString("latin1", index + 1, index + 3) : "";
    if (/^[0-9a-fA-F]{2}$/.test(digits)) {
      decoded.push(Number.parseInt(digits, 16));
      index += 2;
    } else {
      decoded.push(bytes[index]);
    }
  }
  return decoder.decode(Uint8Array.from(decoded));
}

/**
 * Returns the route that `$request.body.action` selects among `routes`; without `routes` any action is a route.
 *
 * Only a text message can select a route. An action that begins with `$` selects none.
 */
export function selectRoute(body, routes) {
  const action = typeof body === "string" ? actionOf(body) : "";
  const isRoute = routes === undefined || routes.includes(action);
  return action === "" || action.startsWith("$") || !isRoute ? "$default" : action;
}

function actionOf(body) {
  try {
    JSON.parse(body);
    const document = new Reader(body).value(1);
    const action = document instanceof Map ? document.get("action") : undefined;
    return action === undefined ? "" : actionText(action);
  } catch {
    return "";
  }
}

/** The text of an action: a string as it is, an array as `[item1, item2]`, and anything else as JSON. */
function actionText(action) {
  if (typeof action === "string") return action;
  if (Array.isArray(action)) return `[${action.map(actionText).join(", ")}]`;
  return jsonText(action);
}

function jsonText(value) {
  if (value instanceof Literal) return value.text;
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(jsonText).join(",")}]`;
  return `{${[...value].map(([name, field]) => `${JSON.stringify(name)}:${jsonText(field)}`).join(",")}}`;
}

/** A number, `true`, `false` or `null`, as it is written. */
class Literal {
  constructor(text) {
    this.text = text;
  }
}

/** Reads valid JSON whose numbers keep their text: an object becomes a Map, in which the last value of a name counts. */
class Reader {
  #json;
  #at = 0;
  constructor(json) {
    this.#json = json;
  }

  value(depth) {
    if (depth > DEPTH_MAX + 1) throw new RangeError("the JSON is nested too deeply");
    this.#skipSpace();
    switch (this.#json[this.#at]) {
      case "{":
        return new Map(this.#items("}", () => {
          const name = this.#string();
          this.#skipSpace();
          this.#at++; // The colon.
          return [name, this.value(depth + 1)];
        }));
      case "[":
        return this.#items("]", () => this.value(depth + 1));
      case '"':
        return this.#string();
      default:
        return new Literal(this.#match(/[^\s,\]}]+/y));
    }
  }

  #items(end, read) {
    const items = [];
    this.#at++;
    for (;;) {
      this.#skipSpace();
      if (this.#json[this.#at] === end) break;
      if (this.#json[this.#at] === ",") this.#at++;
      this.#skipSpace();
      items.push(read());
    }
    this.#at++;
    return items;
  }

  #string() {
    const string = JSON.parse(this.#match(/"(?:[^"\\]|\\.)*"/y));
    if (!string.isWellFormed()) throw new SyntaxError("a string of JSON has a lone surrogate");
    return string;
  }

  #skipSpace() {
    this.#match(/\s*/y);
  }

  #match(pattern) {
    pattern.lastIndex = this.#at;
    const [found] = pattern.exec(this.#json);
    this.#at += found.length;
    return found;
  }
}
