// The event that is handled, as the JSON that API Gateway sends to a Lambda function.
//
// The keys, their order and the values are those of the real host, for a peer without a proxy.

const HEADERS = ["headers", "multiValueHeaders"];
const QUERY_STRING = ["queryStringParameters", "multiValueQueryStringParameters"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Returns the event of a route handler. */
export function handlerEvent(request, connection, event) {
  const json = {};
  if (event.kind === "connect") {
    const headers = withForwardingHeaders(request, connection, event.headers);
    ["Connection", "Upgrade", "content-length"].forEach((name) => headers.remove(name));
    headers.sort();
    addFields(json, HEADERS, headers);
    if (event.query.length > 0) addFields(json, QUERY_STRING, new Fields(event.query, exact));
  }
  if (event.kind === "disconnect") {
    const fields = [["Host", connection.domainName], ["x-api-key", ""], ["X-Forwarded-For", ""], ["x-restapi", ""]];
    addFields(json, HEADERS, new Fields(fields, exact));
  }
  if (connection.stageVariables.length > 0) json.stageVariables = new Fields(connection.stageVariables, exact).lastValues();
  json.requestContext = requestContext(request, connection, event);
  if (event.kind === "message") {
    json.body = typeof event.body === "string" ? event.body : Buffer.from(event.body).toString("base64");
  }
  json.isBase64Encoded = event.kind === "message" && typeof event.body !== "string";
  return JSON.stringify(json);
}

/** Returns the event of a REQUEST authorizer, whose event is that of `$connect`. */
export function authorizerEvent(request, connection, event) {
  const headers = withForwardingHeaders(request, connection, event.headers);
  headers.set("Connection", "upgrade");
  headers.set("Upgrade", "websocket");
  headers.set("content-length", "0");
  headers.sort();
  const { apiId, stage } = connection;
  const json = { type: "REQUEST", methodArn: `arn:aws:execute-api:us-east-1:123456789012:${apiId}/${stage}/${request.routeKey}` };
  addFields(json, HEADERS, headers);
  addFields(json, QUERY_STRING, new Fields(event.query, exact));
  json.stageVariables = new Fields(connection.stageVariables, exact).lastValues();
  json.requestContext = requestContext(request, connection, event);
  return JSON.stringify(json);
}

/** Adds the headers that API Gateway adds. The values that a proxy has sent are kept. */
function withForwardingHeaders(request, connection, headers) {
  const fields = new Fields(headers, ignoringCase);
  const unique = request.requestId.replace(/=+$/, "").padStart(24, "0");
  const seconds = Math.floor(request.requestTime / 1000).toString(16).padStart(8, "0");
  const traceId = fields.all("X-Amzn-Trace-Id").at(-1) ?? `Root=1-${seconds}-${unique}`;
  fields.set("X-Amzn-Trace-Id", traceId);
  fields.set("X-Forwarded-For", [...fields.all("X-Forwarded-For"), connection.sourceIp].join(", "));
  const proto = fields.all("X-Forwarded-Proto").at(-1) ?? "http";
  fields.set("X-Forwarded-Port", fields.all("X-Forwarded-Port").at(-1) ?? portOf(connection.domainName, proto));
  fields.set("X-Forwarded-Proto", proto);
  return fields;
}

function requestContext(request, connection, event) {
  const { requestId, routeKey, requestTime, connectedAt, connectionId } = request;
  const { apiId, stage, domainName, sourceIp, userAgent, authorizer } = connection;
  return {
    routeKey,
    authorizer: authorizer.length > 0 ? new Fields(authorizer, exact).lastValues() : undefined,
    messageId: event.messageId,
    disconnectStatusCode: event.statusCode,
    eventType: event.kind.toUpperCase(),
    extendedRequestId: requestId,
    requestTime: clfTime(requestTime),
    messageDirection: "IN",
    disconnectReason: event.reason,
    stage,
    connectedAt,
    requestTimeEpoch: requestTime,
    identity: { userAgent, sourceIp },
    requestId,
    domainName,
    connectionId,
    apiId,
  };
}

/** Adds fields under two keys: with the last value of each name, and with all values. */
function addFields(json, [last, all], fields) {
  json[last] = fields.lastValues();
  json[all] = fields.allValues();
}

const exact = (name) => name;
const ignoringCase = (name) => name.toLowerCase();

/** Each name with all of its values, in the order in which the names first appear. */
class Fields {
  #fields = [];
  constructor(pairs, key) {
    for (const [name, value] of pairs) {
      const found = this.#fields.find(([other]) => key(other) === key(name));
      if (found) found[1].push(value);
      else this.#fields.push([name, [value]]);
    }
  }
  all(name) {
    return this.#fields.find(([other]) => ignoringCase(other) === ignoringCase(name))?.[1] ?? [];
  }
  remove(name) {
    this.#fields = this.#fields.filter(([other]) => ignoringCase(other) !== ignoringCase(name));
  }
  set(name, value) {
    this.remove(name);
    this.#fields.push([name, [value]]);
  }
  sort() {
    const key = ([name]) => name.toLowerCase();
    this.#fields.sort((one, other) => (key(one) < key(other) ? -1 : key(one) > key(other) ? 1 : 0));
  }
  lastValues() {
    return Object.fromEntries(this.#fields.map(([name, values]) => [name, values.at(-1)]));
  }
  allValues() {
    return Object.fromEntries(this.#fields);
  }
}

/** Returns the port in a `Host` header; if it has none, the default port of the scheme. */
function portOf(host, proto) {
  return /:(\d+)$/.exec(host)?.[1] ?? (proto.toLowerCase() === "https" ? "443" : "80");
}

/** Formats a time as in `requestTime`: `09/Feb/2024:18:11:43 +0000`. */
export function clfTime(at) {
  const [date, time] = new Date(at).toISOString().split("T");
  const [year, month, day] = date.split("-");
  return `${day}/${MONTHS[month - 1]}/${year}:${time.slice(0, 8)} +0000`;
}
