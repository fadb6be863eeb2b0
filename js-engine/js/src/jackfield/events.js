// The event and the context that the functions of a plugin get. All that costs something is made at its first use.

import { native } from "../native.js";

const KINDS = ["connect", "message", "disconnect"];

export class Context {
  #connection;
  constructor(connectionId, routeKey, requestId, requestTime, connectedAt) {
    this.connectionId = connectionId;
    this.routeKey = routeKey;
    this.requestId = requestId;
    this.requestTime = requestTime;
    this.connectedAt = connectedAt;
  }
  get #details() {
    return (this.#connection ??= native.event.connection());
  }
  get apiId() {
    return this.#details[0];
  }
  get stage() {
    return this.#details[1];
  }
  get domainName() {
    return this.#details[2];
  }
  get identity() {
    return { sourceIp: this.#details[3], userAgent: this.#details[4] };
  }
  get authorizer() {
    return Object.fromEntries(this.#details[5]);
  }
  get stageVariables() {
    return Object.fromEntries(this.#details[6]);
  }
}

export class ConnectEvent {
  #headers;
  #query;
  #fields;
  constructor(headers, query) {
    this.#fields = [headers, query];
  }
  get type() {
    return KINDS[0];
  }
  get headers() {
    return (this.#headers ??= new Headers(this.#fields[0]));
  }
  get query() {
    return (this.#query ??= new URLSearchParams(this.#fields[1]));
  }
}

export class MessageEvent {
  constructor(body, messageId) {
    this.body = body;
    this.messageId = messageId;
  }
  get type() {
    return KINDS[1];
  }
  text() {
    return typeof this.body === "string" ? this.body : new TextDecoder().decode(this.body);
  }
  bytes() {
    return typeof this.body === "string" ? new TextEncoder().encode(this.body) : this.body;
  }
  json() {
    return JSON.parse(this.text());
  }
}

export class DisconnectEvent {
  constructor(statusCode, reason) {
    this.statusCode = statusCode;
    this.reason = reason;
  }
  get type() {
    return KINDS[2];
  }
}
