// The operations of the API Gateway Management API, as both AWS SDKs call them, on the host's `connections`.
import { native } from "../native.js";

/** By the number that `native.connections` returns. */
const ERRORS = [
  undefined,
  { name: "GoneException", status: 410, message: "no open connection has this id" },
  { name: "PayloadTooLargeException", status: 413, message: "the message is longer than message_size in [connection]" },
  { name: "LimitExceededException", status: 429, message: "the peer reads too slowly, or the handler sends too much" },
  {
    name: "ForbiddenException",
    status: 403,
    message: "the manifest does not let this handler call connections; add the grant that the log names",
  },
];
const BAD_REQUEST = { name: "BadRequestException", status: 400 };

/** A failure in neither SDK's form. */
export class Failure {
  constructor({ name, status, message }) {
    this.name = name;
    this.status = status;
    this.message = message;
  }
}

/**
 * The message that data makes: text, as `@connections` sends it.
 * Returns undefined for a value that is no data.
 */
function messageOf(data) {
  if (typeof data === "string") return data;
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (!ArrayBuffer.isView(data)) return undefined;
  const text = native.buffer.strictUtf8(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  if (text === undefined) {
    const message = 'the data is not UTF-8, and this client sends text; for binary messages use `connections` of "jackfield"';
    throw new Failure({ ...BAD_REQUEST, message });
  }
  return text;
}

function check(code) {
  if (code !== 0) throw new Failure(ERRORS[code]);
}

/** Each operation takes the parameters that AWS documents, and returns what AWS returns, or throws a `Failure`. */
export const operations = {
  postToConnection({ ConnectionId, Data }) {
    // Without data AWS sends an empty message.
    const message = Data === undefined || Data === null ? "" : messageOf(Data);
    if (message === undefined) {
      throw new TypeError("PostToConnection: Data is neither a string nor a Buffer, ArrayBuffer or typed array");
    }
    check(native.connections.post(ConnectionId, message));
    return {};
  },

  getConnection({ ConnectionId }) {
    const found = native.connections.get(ConnectionId);
    if (typeof found === "number") check(found);
    const [connectedAt, lastActiveAt, sourceIp, userAgent] = found;
    return {
      ConnectedAt: new Date(connectedAt),
      Identity: userAgent === undefined || userAgent === null ? { SourceIp: sourceIp } : { SourceIp: sourceIp, UserAgent: userAgent },
      LastActiveAt: new Date(lastActiveAt),
    };
  },

  deleteConnection({ ConnectionId }) {
    check(native.connections.delete(ConnectionId));
    return {};
  },
};
