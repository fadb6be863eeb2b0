// Every part of what the functions of a plugin get and may return. The answer is JSON.
import { connections, kv, log, routes, store } from "jackfield";

const asJson = (value) => JSON.stringify(value);

export default routes({
  async $connect(event, context) {
    if (event.query.get("refuse")) return { statusCode: 403 };
    await store.put(context.connectionId, { user: event.query.get("user") ?? "nobody", agent: event.headers.get("user-agent") ?? "none" });
  },
  async $disconnect(event, context) {
    log.info(`closed with ${event.statusCode} ${event.reason}`);
  },
  text: () => "plain",
  bytes: () => new Uint8Array([0, 255]),
  nothing: () => {},
  full: () => ({ statusCode: 200, headers: { "X-A": "1" }, body: "whole" }),
  unexpected: () => ({ answer: 42 }),
  context: (event, context) => asJson([context.routeKey, context.stage, event.type, event.json().action, typeof context.identity.sourceIp,
    context.connectedAt <= context.requestTime, event.bytes().length === event.text().length]),
  async row(event, context) {
    const { connectionId } = context;
    await store.add(connectionId, "room", "a");
    await store.add(connectionId, "room", "b");
    await store.remove(connectionId, "room", "a");
    const row = await store.get(connectionId);
    const { rows, cursor } = await store.query("room", "b");
    const all = [];
    for await (const one of store.queryAll("room", "b")) all.push(one.connectionId);
    for await (const one of store.scanAll()) all.push(one.connectionId);
    const isOwn = [...rows.map((one) => one.connectionId), ...all].every((id) => id === connectionId);
    return asJson([row.get("user"), row.getAll("room"), isOwn && all.length === 2 && rows.map(() => true), cursor]);
  },
  async post(event, context) {
    const errors = [];
    await connections.postToConnection("L0SM9cOFvHcCIhw=", "x").catch((error) => errors.push(error.name, error.statusCode));
    const [known, unknown] = await connections.postToConnections([context.connectionId, "L0SM9cOFvHcCIhw="], "posted");
    const count = await connections.postToMatching("user", "ada", new Uint8Array([1, 2]));
    const { identity } = await connections.getConnection(context.connectionId);
    return asJson([errors, known === undefined, unknown.name, count, typeof identity.sourceIp]);
  },
  async bucket() {
    const bucket = kv.bucket("notes");
    await bucket.set("a", "one");
    await bucket.setMany({ b: "two", c: "3" });
    const many = await bucket.getMany(["b", "absent"]);
    const updated = await bucket.update("a", (current) => `${new TextDecoder().decode(current)}!`);
    const keys = [];
    for await (const key of bucket.keys()) keys.push(key);
    if (String(keys) !== String((await bucket.listKeys()).keys)) throw new Error(`the keys are ${keys}`);
    const sum = await bucket.increment("c", 4);
    await bucket.deleteMany(["b", "c"]);
    const refused = await kv.bucket("absent").get("a").catch((error) => [error.name, error.statusCode]);
    return asJson([await bucket.getText("a"), updated, many[0][0], many[1], keys.sort(), sum, await bucket.exists("b"), refused]);
  },
});
