// Finds the handler in what a file exports, and returns what runs its events.

import { Authorizer, Plugin, Routes } from "./plugin.js";
import { ConnectEvent, Context, DisconnectEvent, MessageEvent } from "./events.js";
import { forgetSource } from "./errors.js";
import { lambdaAuthorizer, lambdaHandler } from "./lambda.js";
import { respond } from "./respond.js";
import { respondDecision } from "./decision.js";

/** Returns `[dispatch, respond, allowsPlain]`: with `allowsPlain`, nothing, strings and bytes need no `respond`. */
export function bind(request, exports) {
  forgetSource();
  const ours = exports.default instanceof Plugin || exports.default instanceof Routes || exports.default instanceof Authorizer;
  const name = request.handler ?? (ours ? "default" : "handler");
  const handler = exports[name];
  const isAuthorizer = request.world === "request-authorizer";
  if (handler instanceof Plugin || handler instanceof Routes) {
    if (isAuthorizer) throw new TypeError(`the export ${JSON.stringify(name)} handles routes, but an authorizer was expected: use authorizer(...)`);
    return [handler instanceof Plugin ? pluginDispatch(handler.functions) : routesDispatch(handler.functions), respond, true];
  }
  if (handler instanceof Authorizer) {
    if (!isAuthorizer) throw new TypeError(`the export ${JSON.stringify(name)} is an authorizer, but it is used for routes: use plugin(...) or routes(...)`);
    return [authorizerDispatch(handler.authorize), respondDecision, false];
  }
  if (typeof handler !== "function") throw new TypeError(missing(request, name, exports, handler));
  return isAuthorizer ? lambdaAuthorizer(handler) : lambdaHandler(handler);
}

function missing(request, name, exports, handler) {
  const names = Object.keys(exports).map((one) => JSON.stringify(one));
  const found = names.length === 0 ? "it exports nothing" : `it exports ${names.join(", ")}`;
  const problem = handler === undefined ? `no export ${JSON.stringify(name)}` : `an export ${JSON.stringify(name)} that is no function`;
  const advice = request.handler == null
    ? `export a function "handler", set "handler" in the manifest to another export, or export default plugin({ ... }) of "jackfield"`
    : `set "handler" in the manifest to an export that is a function`;
  return `${request.name} has ${problem}; ${found}; ${advice}`;
}

function makeEvent(kind, first, second) {
  if (kind === 1) return new MessageEvent(first, second);
  return kind === 0 ? new ConnectEvent(first, second) : new DisconnectEvent(first, second);
}

function pluginDispatch({ connect, message, disconnect }) {
  const functions = [connect, message, disconnect];
  return (kind, connectionId, routeKey, requestId, requestTime, connectedAt, first, second) => {
    const handle = functions[kind];
    if (handle === undefined) return undefined;
    return handle(makeEvent(kind, first, second), new Context(connectionId, routeKey, requestId, requestTime, connectedAt));
  };
}

function routesDispatch(functions) {
  return (kind, connectionId, routeKey, requestId, requestTime, connectedAt, first, second) => {
    let handle = Object.hasOwn(functions, routeKey) ? functions[routeKey] : undefined;
    if (handle === undefined) {
      if (kind !== 1) return undefined;
      if (!Object.hasOwn(functions, "$default")) {
        const wanted = routeKey === "$default" ? '"$default"' : `the route ${JSON.stringify(routeKey)}, and none for "$default"`;
        throw new Error(`routes() has no function for ${wanted}; it has ${Object.keys(functions).join(", ")}`);
      }
      handle = functions.$default;
    }
    return handle(makeEvent(kind, first, second), new Context(connectionId, routeKey, requestId, requestTime, connectedAt));
  };
}

function authorizerDispatch(authorize) {
  return (kind, connectionId, routeKey, requestId, requestTime, connectedAt, first, second) =>
    authorize(new ConnectEvent(first, second), new Context(connectionId, routeKey, requestId, requestTime, connectedAt));
}
