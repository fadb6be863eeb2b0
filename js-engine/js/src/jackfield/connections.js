// `connections` of "jackfield": the contract's functions, in camelCase, returning promises.

import { native } from "../native.js";
import { errorClass } from "./error-class.js";
import { bytesOf } from "./respond.js";

const { connections: host } = native;

export class ConnectionError extends Error {
  constructor(message, statusCode) {
    super(message);
    this.statusCode = statusCode;
  }
}

const GoneError = errorClass(ConnectionError, "GoneError", 410, "the connection does not exist or is closed");
const PayloadTooLargeError = errorClass(ConnectionError, "PayloadTooLargeError", 413, "the message is larger than the limit for a message");
const LimitExceededError = errorClass(ConnectionError, "LimitExceededError", 429, "the peer reads too slowly, or the handler sends too much");
const ForbiddenError = errorClass(ConnectionError, "ForbiddenError", 403, "the manifest does not grant this to the handler");

/** By the number that the engine returns. */
const ERRORS = [undefined, GoneError, PayloadTooLargeError, LimitExceededError, ForbiddenError];

export const errors = { ConnectionError, GoneError, PayloadTooLargeError, LimitExceededError, ForbiddenError };

function check(code) {
  if (code !== 0) throw new ERRORS[code]();
}

function data(value) {
  return typeof value === "string" ? value : bytesOf(value) ?? value;
}

export const connections = {
  async postToConnection(connectionId, message) {
    check(host.post(connectionId, data(message)));
  },

  /** Returns one result for each id: `undefined`, or the error. */
  async postToConnections(connectionIds, message) {
    return host.postMany([...connectionIds], data(message)).map((code) => (code === 0 ? undefined : new ERRORS[code]()));
  },

  /** Returns for how many connections the message was queued. */
  async postToMatching(name, value, message, { except } = {}) {
    const count = except === undefined ? host.postMatching(name, value, data(message)) : host.postMatching(name, value, data(message), except);
    if (count < 0) check(-count);
    return count;
  },

  async getConnection(connectionId) {
    const info = host.get(connectionId);
    if (typeof info === "number") check(info);
    const [connectedAt, lastActiveAt, sourceIp, userAgent] = info;
    return { connectedAt, lastActiveAt, identity: { sourceIp, userAgent } };
  },

  async deleteConnection(connectionId, frame) {
    check(frame === undefined ? host.delete(connectionId) : host.delete(connectionId, frame.code ?? 1000, frame.reason ?? ""));
  },
};
