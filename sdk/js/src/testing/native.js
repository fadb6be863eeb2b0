// The functions that the source of the engine calls, implemented by the test double of this process. Their parameters and
// results are those of js-engine/src/native/, their limits and errors those of the real host.

import { GONE, LIMIT_EXCEEDED, PAYLOAD_TOO_LARGE, countHostCall, countHostCalls, currentDouble, currentEvent, trap } from "./double.js";
import { keyvalue } from "./keyvalue.js";
import { CLOSE_REASON_BYTES_MAX, ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, MESSAGE_BYTES_MAX, PAGE_BYTES, PAGE_ITEMS, ROW_ATTRIBUTES_MAX, TURN_POSTS } from "./limits.js";
import { checkParameters, pairsBytes, textsBytes } from "./parameters.js";
import { bytesIn, compare, optionalText, text } from "./text.js";

const LEVELS = ["trace", "debug", "info", "warn", "error", "critical"];

// ---- connections -----------------------------------------------------------------------------

function payload(value) {
  if (typeof value === "string") return text(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError("the data of a message is neither a string nor a Uint8Array");
}

function postOne(id, body) {
  if (bytesIn(body) > MESSAGE_BYTES_MAX) return PAYLOAD_TOO_LARGE;
  return countHostCalls(1) ? currentDouble().post(id, body) : LIMIT_EXCEEDED;
}

const connections = {
  post(id, message) {
    const [to, body] = [text(id), payload(message)];
    checkParameters(bytesIn(to) + bytesIn(body));
    return postOne(to, body);
  },

  postMany(ids, message) {
    const [all, body] = [ids.map(text), payload(message)];
    checkParameters(textsBytes(all) + bytesIn(body));
    return all.map((id) => postOne(id, body));
  },

  postMatching(name, value, message, exceptId) {
    const [attribute, body, except] = [[text(name), text(value)], payload(message), optionalText(exceptId)];
    checkParameters(bytesIn(attribute[0]) + bytesIn(attribute[1]) + bytesIn(body) + bytesIn(except ?? ""));
    if (bytesIn(body) > MESSAGE_BYTES_MAX) return -PAYLOAD_TOO_LARGE;
    if (!countHostCalls(1)) return -LIMIT_EXCEEDED;
    const double = currentDouble();
    const matching = [...double.rows].filter(([, attributes]) => contains(attributes, attribute)).map(([id]) => id);
    // The call itself was counted as the first turn.
    if (!countHostCalls(Math.max(0, Math.ceil(matching.length / TURN_POSTS) - 1))) return -LIMIT_EXCEEDED;
    return matching.filter((id) => id !== except && double.post(id, body) === 0).length;
  },

  get(id) {
    checkParameters(bytesIn(text(id)));
    if (!countHostCalls(1)) return LIMIT_EXCEEDED;
    const connection = currentDouble().open(text(id));
    if (connection === undefined) return GONE;
    return [connection.connectedAt, connection.lastActiveAt, connection.sourceIp, connection.userAgent];
  },

  delete(id, code = 1000, reasonText = "") {
    const [closed, reason] = [text(id), text(reasonText)];
    checkParameters(bytesIn(closed) + bytesIn(reason));
    if (!countHostCalls(1)) return LIMIT_EXCEEDED;
    if (!isCloseCode(code)) trap(`${code} is not a close code that can be sent`);
    if (bytesIn(reason) > CLOSE_REASON_BYTES_MAX) trap(`a close reason has at most ${CLOSE_REASON_BYTES_MAX} bytes`);
    return currentDouble().delete(closed, { code, reason });
  },
};

function isCloseCode(code) {
  const isBetween = (least, most) => Number.isInteger(code) && code >= least && code <= most;
  return isBetween(1000, 1003) || isBetween(1007, 1014) || isBetween(3000, 4999);
}

// ---- the connection store ----------------------------------------------------------------------

function contains(attributes, [name, value]) {
  return attributes.some(([otherName, otherValue]) => otherName === name && otherValue === value);
}

function beginStoreCall(parameterBytes) {
  checkParameters(parameterBytes);
  countHostCall();
  return currentDouble();
}

function row(double, id, attributes) {
  return [id, double.connections.get(id).connectedAt, attributes.map((pair) => [...pair])];
}

function attributesOf(double, id) {
  const attributes = double.rows.get(id);
  if (attributes === undefined) throw ["NoSuchConnection", ""];
  return attributes;
}

function change(double, id, work) {
  const changed = work(attributesOf(double, id));
  changed.sort(([name, value], [otherName, otherValue]) => compare(name, otherName) || compare(value, otherValue));
  const unique = changed.filter((pair, index) => index === 0 || !contains([changed[index - 1]], pair));
  const fits = ([name, value]) => bytesIn(name) <= ATTRIBUTE_NAME_BYTES_MAX && bytesIn(value) <= ATTRIBUTE_VALUE_BYTES_MAX;
  if (unique.length > ROW_ATTRIBUTES_MAX || !unique.every(fits)) throw ["TooLarge", ""];
  double.rows.set(id, unique);
}

function page(double, cursor, matches) {
  if (cursor !== undefined && !/^[A-Za-z0-9_-]{15}=$/.test(cursor)) {
    throw ["Unavailable", "the cursor is none that a page has given"];
  }
  const matching = [...double.rows]
    .filter(([id, attributes]) => (cursor === undefined || compare(id, cursor) > 0) && matches(attributes))
    .sort(([one], [other]) => compare(one, other));
  const rows = [];
  let bytes = 0;
  while (rows.length < PAGE_ITEMS && bytes < PAGE_BYTES && rows.length < matching.length) {
    const [id, attributes] = matching[rows.length];
    bytes += attributes.reduce((sum, [name, value]) => sum + bytesIn(name) + bytesIn(value), 0);
    rows.push(row(double, id, attributes));
  }
  return [rows, rows.length < matching.length ? rows.at(-1)?.[0] : undefined];
}

const store = {
  get(connectionId) {
    const id = text(connectionId);
    const double = beginStoreCall(bytesIn(id));
    return row(double, id, attributesOf(double, id));
  },

  put(connectionId, flat) {
    const [id, texts, pairs] = [text(connectionId), flat.map(text), []];
    for (let index = 0; index < texts.length; index += 2) pairs.push([texts[index], texts[index + 1]]);
    change(beginStoreCall(bytesIn(id) + pairsBytes(pairs)), id, () => pairs);
  },

  add(connectionId, name, value) {
    const [id, pair] = [text(connectionId), [text(name), text(value)]];
    change(beginStoreCall(bytesIn(id) + bytesIn(pair[0]) + bytesIn(pair[1])), id, (attributes) => [...attributes, pair]);
  },

  remove(connectionId, name, value) {
    const [id, removed, only] = [text(connectionId), text(name), optionalText(value)];
    const double = beginStoreCall(bytesIn(id) + bytesIn(removed) + bytesIn(only ?? ""));
    change(double, id, (attributes) =>
      attributes.filter(([other, kept]) => other !== removed || (only !== undefined && kept !== only)));
  },

  query(name, value, cursor) {
    const [attribute, after] = [[text(name), text(value)], optionalText(cursor)];
    const double = beginStoreCall(bytesIn(attribute[0]) + bytesIn(attribute[1]) + bytesIn(after ?? ""));
    return page(double, after, (attributes) => contains(attributes, attribute));
  },

  scan(cursor) {
    const after = optionalText(cursor);
    return page(beginStoreCall(bytesIn(after ?? "")), after, () => true);
  },
};

// ---- the other interfaces ----------------------------------------------------------------------

const config = {
  get: (key) => currentDouble().config.get(text(key)),
  getAll: () => [...currentDouble().config].sort(([one], [other]) => compare(one, other)),
};

const log = {
  write(level, line) {
    currentDouble().logs.push({ level: LEVELS[level], message: text(line) });
  },
};

function handledEvent(what) {
  const current = currentEvent();
  if (current?.request === undefined) throw new Error(`${what} was used while no event is handled: only a handler can use it`);
  countHostCall();
  return current;
}

const event = {
  connection() {
    const current = handledEvent("the connection's context");
    const { apiId, stage, domainName, sourceIp, userAgent, authorizer, stageVariables } = current.double.connectionOf(current);
    return [apiId, stage, domainName, sourceIp, userAgent, authorizer, stageVariables];
  },
  json() {
    const current = handledEvent("the event");
    return current.double.eventJson(current);
  },
  waitForEmptyLoop() {},
};

export const native = {
  clock: { monotonic: () => performance.now() },
  commonJsHead: 0,
  config,
  connections,
  event,
  kv: keyvalue,
  log,
  store,
};
