// Makes the calls of a case by the module "jackfield".

import {
  ConnectionError, ForbiddenError, GoneError, KvError, LimitExceededError, NoSuchConnectionError, PayloadTooLargeError,
  StoreError, TooLargeError, AccessDeniedError, config, connections, currentConnection, kv, store,
} from "jackfield";
import type { Cas, Page, Row } from "jackfield";
import { languageCall } from "./language.js";
import { fromBytes, mapTexts, toBytes, toPayload } from "./values.js";

/** A call of a case, with the parameters that its function has. */
export interface Call {
  call: string;
  [parameter: string]: any;
}

type Json = null | boolean | number | bigint | string | Json[] | { [name: string]: Json | undefined };

/** What one call leaves for the next one. */
interface State {
  cursor: string | undefined;
  cas: Cas | undefined;
}

/** `undefined` stands for "ok". */
type Outcome = Promise<Json | void>;

/** Makes the calls and returns their results. `event` is the result of the call `event`. */
export async function run(calls: Call[], ownId: string, event: Json): Promise<Json[]> {
  const state: State = { cursor: undefined, cas: undefined };
  const results: Json[] = [];
  const areas: Record<string, (call: Call, state: State) => Outcome> = {
    event: async () => event,
    connections: connectionsCall,
    "connection-store": storeCall,
    keyvalue: keyvalueCall,
    language: async (call) => languageCall(call),
  };
  for (const written of calls) {
    const call: Call = mapTexts(written, (text: string) => (text === "@self" ? ownId : text === "@cursor" ? state.cursor : text));
    const make = areas[call.call.split(".")[0]!] ?? otherCall;
    try {
      results.push((await make(call, state)) ?? "ok");
    } catch (error) {
      results.push(errorName(error));
    }
  }
  return results;
}

/** The name of an error of the contract. Any other error is one of the handler. */
function errorName(error: unknown): string {
  const names: [type: new (...args: any[]) => Error, name: string][] = [
    [GoneError, "gone"], [PayloadTooLargeError, "payload-too-large"], [LimitExceededError, "limit-exceeded"],
    [ForbiddenError, "forbidden"], [NoSuchConnectionError, "no-such-connection"], [TooLargeError, "too-large"],
    [AccessDeniedError, "access-denied"], [StoreError, "unavailable"],
  ];
  const found = names.find(([type]) => error instanceof type);
  if (found !== undefined) return found[1];
  if (error instanceof KvError) {
    const kvNames: Record<number, string> = { 403: "access-denied", 404: "no-such-store" };
    return kvNames[error.statusCode] ?? "other";
  }
  throw error;
}

async function connectionsCall(call: Call): Outcome {
  switch (call.call) {
    case "connections.post-to-connection":
      return connections.postToConnection(call.id, toPayload(call.data));
    case "connections.post-to-connections": {
      const errors = await connections.postToConnections(call.ids, toPayload(call.data));
      return errors.map((error) => (error instanceof ConnectionError ? errorName(error) : "ok"));
    }
    case "connections.post-to-matching":
      return { ok: await connections.postToMatching(call.name, call.value, toPayload(call.data), { except: call.except }) };
    case "connections.get-connection": {
      const { connectedAt, lastActiveAt, identity } = await connections.getConnection(call.id);
      return { ok: { "source-ip": identity.sourceIp, "user-agent": identity.userAgent ?? null, "was-active-later": lastActiveAt > connectedAt } };
    }
    case "connections.delete-connection":
      return connections.deleteConnection(call.id, call.code === undefined ? undefined : { code: call.code, reason: call.reason });
    default:
      throw new Error(`no function ${call.call}`);
  }
}

async function storeCall(call: Call, state: State): Outcome {
  const page = ({ rows, cursor }: Page): Json => {
    state.cursor = cursor;
    return { ok: { rows: rows.map(row), cursor: cursor !== undefined } };
  };
  const ids = ({ rows, cursor }: Page): PageOf<string> => [rows.map((row) => row.connectionId), cursor];
  switch (call.call) {
    case "connection-store.get":
      return { ok: row(await store.get(call.id)) };
    case "connection-store.put":
      return store.put(call.id, call.attributes);
    case "connection-store.add":
      return store.add(call.id, call.name, call.value);
    case "connection-store.remove":
      return store.remove(call.id, call.name, call.value);
    case "connection-store.query":
      return page(await store.query(call.name, call.value, call.cursor));
    case "connection-store.scan":
      return page(await store.scan(call.cursor));
    case "connection-store.query-pages":
      return pages(async (cursor) => ids(await store.query(call.name, call.value, cursor)));
    case "connection-store.scan-pages":
      return pages(async (cursor) => ids(await store.scan(cursor)));
    default:
      throw new Error(`no function ${call.call}`);
  }
}

function row({ connectionId, attributes }: Row): Json {
  return { "connection-id": connectionId, attributes };
}

/** Items, and the cursor of the next page. */
type PageOf<Item> = [items: Item[], cursor: string | undefined];

/** Follows the cursors of all pages. Returns their lengths, and whether the items are sorted and none is there twice. */
async function pages(fetch: (cursor: string | undefined) => Promise<PageOf<string>>): Promise<Json> {
  const lengths: number[] = [];
  const items: string[] = [];
  let cursor: string | undefined;
  do {
    const [page, next] = await fetch(cursor);
    lengths.push(page.length);
    items.push(...page);
    cursor = next;
  } while (cursor !== undefined);
  return { pages: lengths, sorted: items.every((item, index) => index === 0 || items[index - 1]! < item) };
}

async function keyvalueCall(call: Call, state: State): Outcome {
  const bucket = kv.bucket(call.bucket);
  const value = (bytes: Uint8Array | undefined): Json => (bytes === undefined ? null : fromBytes(bytes));
  switch (call.call) {
    case "keyvalue.open":
      await kv.open(call.bucket);
      return undefined;
    case "keyvalue.get":
      return { ok: value(await bucket.get(call.key)) };
    case "keyvalue.set":
      return bucket.set(call.key, toBytes(call.value));
    case "keyvalue.delete":
      return bucket.delete(call.key);
    case "keyvalue.exists":
      return { ok: await bucket.exists(call.key) };
    case "keyvalue.increment":
      return { ok: await bucket.increment(call.key, call.delta) };
    case "keyvalue.list-keys": {
      const { keys, cursor } = await bucket.listKeys(call.cursor);
      state.cursor = cursor;
      return { ok: { keys, cursor: cursor !== undefined } };
    }
    case "keyvalue.key-pages":
      return pages(async (cursor) => {
        const page = await bucket.listKeys(cursor);
        return [page.keys, page.cursor];
      });
    case "keyvalue.get-many": {
      const found = await bucket.getMany(call.keys);
      return { ok: found.map((pair) => (pair === undefined ? null : [pair[0], fromBytes(pair[1])])) };
    }
    case "keyvalue.set-many":
      return bucket.setMany(call.pairs.map(([key, written]: [string, any]): [string, Uint8Array] => [key, toBytes(written)]));
    case "keyvalue.delete-many":
      return bucket.deleteMany(call.keys);
    case "keyvalue.cas.new":
      state.cas = await bucket.cas(call.key);
      return undefined;
    case "keyvalue.cas.current":
      return { ok: value(await state.cas!.current()) };
    case "keyvalue.cas.swap":
      return (await state.cas!.swap(toBytes(call.value))) ? "ok" : "cas-failed";
    default:
      throw new Error(`no function ${call.call}`);
  }
}

async function otherCall(call: Call): Outcome {
  switch (call.call) {
    case "config.get":
      return { ok: (await config.get(call.key)) ?? null };
    case "config.get-all":
      return { ok: Object.entries(await config.getAll()) };
    case "current-connection.context": {
      const { identity, authorizer, stageVariables } = currentConnection.context();
      return {
        "source-ip": identity.sourceIp,
        "user-agent": identity.userAgent ?? null,
        authorizer: Object.entries(authorizer),
        "stage-variables": Object.entries(stageVariables),
      };
    }
    case "current-connection.event": {
      // The rest of the event differs from one event to the next.
      const event = currentConnection.event();
      const { requestContext } = event;
      return {
        keys: Object.keys(event).sort(),
        body: event.body ?? null,
        isBase64Encoded: event.isBase64Encoded,
        queryStringParameters: event.queryStringParameters ?? null,
        multiValueQueryStringParameters: event.multiValueQueryStringParameters ?? null,
        stageVariables: event.stageVariables ?? null,
        routeKey: requestContext.routeKey,
        eventType: requestContext.eventType,
        connectionId: requestContext.connectionId,
        disconnectStatusCode: requestContext.disconnectStatusCode ?? null,
        disconnectReason: requestContext.disconnectReason ?? null,
      };
    }
    default:
      throw new Error(`no function ${call.call}`);
  }
}
