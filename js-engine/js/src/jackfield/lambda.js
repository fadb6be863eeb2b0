// Handlers in the style of Lambda: `(event, context)` async, or `(event, context, callback)`.

import { native } from "../native.js";
import { env } from "../env.js";
import { contextFields } from "./decision.js";
import { decodeBase64 } from "./base64.js";
import { isError } from "./errors.js";
import { parsePolicy } from "./policy.js";
import { short } from "./respond.js";

// The host writes the event, so it needs no limit on nesting.
const { parse } = JSON;

/** How long an event may take, in milliseconds: `timeout` of the manifest. */
let timeout;

export function setTimeoutOfEvents(milliseconds) {
  timeout = milliseconds;
}

/** What Lambda gives a function besides its event. Nothing of it exists here that is not in the event or the manifest. */
class LambdaContext {
  /** When the event began. Unlike the time of its request, that is after the wait for a free place. */
  #started = native.clock.monotonic();
  constructor(requestId) {
    this.awsRequestId = requestId;
    this.callbackWaitsForEmptyEventLoop = true;
  }
  get functionName() {
    return env.AWS_LAMBDA_FUNCTION_NAME ?? "jackfield";
  }
  get functionVersion() {
    return env.AWS_LAMBDA_FUNCTION_VERSION ?? "$LATEST";
  }
  get memoryLimitInMB() {
    return env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE ?? "128";
  }
  get invokedFunctionArn() {
    return `arn:aws:lambda:us-east-1:123456789012:function:${this.functionName}`;
  }
  get logGroupName() {
    return `/aws/lambda/${this.functionName}`;
  }
  get logStreamName() {
    return this.awsRequestId;
  }
  getRemainingTimeInMillis() {
    return Math.max(0, Math.floor(this.#started + timeout - native.clock.monotonic()));
  }
}

/** Calls a Lambda function. Returns what it returned, or a promise of what it passes to its callback. */
function call(handler, event, requestId) {
  const context = new LambdaContext(requestId);
  if (handler.length < 3) return handler(event, context);
  return new Promise((resolve, reject) => {
    // Lambda answers when nothing is left to do, unless the function switches that off.
    native.event.waitForEmptyLoop(true);
    const finish = (settle, value) => {
      if (!context.callbackWaitsForEmptyEventLoop) native.event.waitForEmptyLoop(false);
      settle(value);
    };
    const callback = (error, result) => {
      if (error === undefined || error === null) finish(resolve, result);
      else finish(reject, isError(error) ? error : new Error(typeof error === "string" ? error : JSON.stringify(error)));
    };
    context.succeed = (result) => callback(null, result);
    context.fail = (error) => callback(error ?? new Error("context.fail was called"));
    context.done = callback;
    const returned = handler(event, context, callback);
    // An async function that also takes a callback: what settles first counts, as in Lambda.
    if (returned instanceof Promise) {
      native.event.waitForEmptyLoop(false);
      returned.then((value) => value !== undefined && resolve(value), reject);
      returned.then(() => native.event.waitForEmptyLoop(true), () => {});
    }
  });
}

/**
 * An event with the properties that most have. QuickJS shares the layout of objects with the same properties, so while
 * this one lives, an event needs no layout of its own and no new names.
 */
const TYPICAL = parse(`{"requestContext":{"routeKey":"","messageId":"","eventType":"","extendedRequestId":"","requestTime":"",\
"messageDirection":"","stage":"","connectedAt":0,"requestTimeEpoch":0,"identity":{"sourceIp":""},"requestId":"","domainName":"",\
"connectionId":"","apiId":""},"body":"","isBase64Encoded":false}`);
export const typicalEvent = () => TYPICAL;

export function lambdaHandler(handler) {
  const dispatch = (kind, connectionId, routeKey, requestId) => call(handler, parse(native.event.json()), requestId);
  return [dispatch, respondProxy, false];
}

const KEYS = ["statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"];

/** Returns `[statusCode, fields, body]` of a proxy response, as strictly as API Gateway. */
function respondProxy(result) {
  if (typeof result !== "object" || result === null || Array.isArray(result)) {
    throw new TypeError(`the function returned ${short(result)}; a Lambda function has to return an object with a statusCode`);
  }
  // As Lambda does it: what the function returned is JSON for API Gateway.
  for (const key in result) {
    if (!KEYS.includes(key) && result[key] !== undefined) {
      throw new TypeError(`the response has the key ${JSON.stringify(key)}; only ${KEYS.join(", ")} are allowed`);
    }
  }
  const hasFields = (result.headers ?? result.multiValueHeaders ?? undefined) !== undefined;
  return [proxyStatus(result.statusCode), hasFields ? proxyFields(result) : [], proxyBody(result)];
}

function proxyStatus(status) {
  if (status === 200) return status;
  const number = typeof status === "string" && status !== "" ? Number(status) : status;
  if (Number.isInteger(number) && number >= 200 && number <= 599) return number;
  throw new TypeError(`the response has the statusCode ${short(status)}; a number from 200 to 599 was expected`);
}

function proxyBody({ body, isBase64Encoded }) {
  if (body === undefined || body === null) return undefined;
  if (typeof body !== "string") throw new TypeError(`the body of the response is ${short(body)}; a string was expected; use JSON.stringify for JSON`);
  if (!isBase64Encoded) return body;
  const bytes = decodeBase64(body);
  if (bytes === undefined) throw new TypeError("the body of the response has isBase64Encoded, but is not base64");
  return bytes;
}

function proxyFields({ headers, multiValueHeaders }) {
  const fields = [];
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (value !== null && value !== undefined) fields.push(name, scalar(name, value));
  }
  for (const [name, values] of Object.entries(multiValueHeaders ?? {})) {
    for (const value of values ?? []) fields.push(name, scalar(name, value));
  }
  return fields;
}

function scalar(name, value) {
  if (["string", "number", "boolean"].includes(typeof value)) return String(value);
  throw new TypeError(`the header ${JSON.stringify(name)} of the response is ${short(value)}; a string was expected`);
}

/** A Lambda authorizer: its policy document becomes a decision. */
export function lambdaAuthorizer(handler) {
  const dispatch = async (kind, connectionId, routeKey, requestId) => {
    const event = parse(native.event.json());
    try {
      return { event, result: await call(handler, event, requestId) };
    } catch (error) {
      // The one message that API Gateway knows: the caller is not known.
      if (error === "Unauthorized" || error?.message === "Unauthorized") return { unauthorized: true };
      throw error;
    }
  };
  return [dispatch, respondPolicy, false];
}

function respondPolicy({ unauthorized, event, result }) {
  if (unauthorized) return ["unauthorized"];
  if (typeof result !== "object" || result === null) {
    throw new TypeError(`the authorizer returned ${short(result)}; an object with principalId and policyDocument was expected`);
  }
  if (typeof result.principalId !== "string" || result.principalId === "") throw new TypeError(`the authorizer returned the principalId ${short(result.principalId)}; a string was expected`);
  if (result.policyDocument === undefined) throw new TypeError("the authorizer returned no policyDocument");
  const policy = parsePolicy(result.policyDocument);
  const fields = contextFields(result.context);
  return policy.allows(event.methodArn) ? ["allow", result.principalId, fields] : ["deny"];
}

