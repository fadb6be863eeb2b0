// The handler of the conformance cases: each event makes the calls that came with it, and keeps or returns their results.

import { kv, plugin } from "jackfield";
import type { ConnectEvent, Context, DisconnectEvent, MessageEvent, Result } from "jackfield";
import { REPLY_PREFIX, expand, fromBytes, parse, shortened, stringify } from "./values.js";
import { run } from "./calls.ts";
import type { Call } from "./calls.ts";

/** A message that asks the handler for something. */
interface Request {
  calls?: Call[];
  "at-disconnect"?: Call[];
  status?: number;
  bytes?: number;
  kept?: string;
}

/** The bucket in which the handler keeps results, and calls for later events. No case uses it. */
const results = kv.bucket("conformance");

export default plugin({ connect, message, disconnect });

/**
 * Makes the calls of the parameter `calls`, and keeps their results as `connect ID`. The parameter `status` is the status of
 * the response.
 */
async function connect({ query, headers }: ConnectEvent, context: Context): Promise<Result> {
  const event = {
    "connection-id": context.connectionId,
    "route-key": context.routeKey,
    "query-string": [...query].filter(([name]) => name !== "calls" && name !== "status"),
    headers: [...headers].filter(([name]) => name.startsWith("x-test")),
  };
  if (query.has("calls")) {
    await results.set(`connect ${context.connectionId}`, await makeCalls(parse(query.get("calls")!), context, event));
  }
  return { statusCode: Number(query.get("status") ?? 200) };
}

/**
 * Makes the calls of a message, or keeps them for `$disconnect`, or returns results that were kept, or a response of a given
 * status and length. Any other message is returned with its route.
 */
async function message({ body }: MessageEvent, context: Context): Promise<Result> {
  const document = documentOf(body);
  if (Array.isArray(document?.calls)) {
    const event = { "connection-id": context.connectionId, "route-key": context.routeKey };
    return REPLY_PREFIX + (await makeCalls(document.calls, context, event));
  }
  if (Array.isArray(document?.["at-disconnect"])) {
    await results.set(`calls ${context.connectionId}`, stringify(document["at-disconnect"]));
    return `${REPLY_PREFIX}null`;
  }
  if (document?.status !== undefined) {
    const filler = "x".repeat(Math.max(0, (document.bytes ?? 0) - REPLY_PREFIX.length));
    return { statusCode: document.status, body: REPLY_PREFIX + filler };
  }
  if (document?.kept !== undefined) return REPLY_PREFIX + ((await results.getText(document.kept)) ?? "null");
  const received = typeof body === "string" ? { text: body } : { binary: fromBytes(body) };
  return REPLY_PREFIX + stringify(shortened({ "route-key": context.routeKey, body: received }));
}

/** Makes the calls that were kept for this connection, and keeps their results as `disconnect ID`. */
async function disconnect({ statusCode, reason }: DisconnectEvent, context: Context): Promise<void> {
  const calls = parse((await results.getText(`calls ${context.connectionId}`)) ?? "[]");
  const event = { "connection-id": context.connectionId, "route-key": context.routeKey, code: statusCode, reason };
  await results.set(`disconnect ${context.connectionId}`, await makeCalls(calls, context, event));
}

async function makeCalls(calls: Call[], { connectionId }: Context, event: Record<string, any>): Promise<string> {
  return stringify(shortened(await run(expand(calls), connectionId, event)));
}

function documentOf(body: string | Uint8Array): Request | undefined {
  try {
    return typeof body === "string" ? parse(body) : undefined;
  } catch {
    return undefined;
  }
}
