// Tests of the test double: what the conformance cases do not reach.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  GoneError, LimitExceededError, authorizer, config, connections, currentConnection, kv, log, plugin, routes, store,
} from "jackfield";
import { ConnectError, Host } from "jackfield/testing";

const none = plugin({});

test("a peer is connected with its headers, its address and the values of an authorizer", async () => {
  const host = new Host();
  host.setStageVariable("color", "blue");
  const handler = plugin({
    connect: (event, context) => {
      const { identity, authorizer, stageVariables, requestTime } = context;
      const seen = [event.headers.get("X-Test"), event.query.getAll("a"), identity, authorizer, stageVariables, requestTime];
      return { statusCode: 201, headers: { a: ["1", "2"] }, body: JSON.stringify(seen) };
    },
  });
  host.advance(5);
  const options = { headers: { "x-test": "yes", "User-Agent": "a browser" }, sourceIp: "192.0.2.1", authorizer: { n: 7 } };
  const { response } = await host.connect(handler, "?a=1&a=%C3%A4", options);
  assert.deepEqual(response.headers, [["a", "1"], ["a", "2"]]);
  assert.equal(response.statusCode, 201);
  assert.deepEqual(JSON.parse(response.body), [
    "yes", ["1", "ä"], { sourceIp: "192.0.2.1", userAgent: "a browser" }, { n: "7" }, { color: "blue" }, 1_700_000_000_005,
  ]);
});

test("a peer that is rejected sees the status, and a handler that fails is 502", async () => {
  const host = new Host();
  const rejected = await host.connect(plugin({ connect: () => ({ statusCode: 403, body: "no" }) })).catch((error) => error);
  assert.ok(rejected instanceof ConnectError);
  assert.deepEqual([rejected.statusCode, rejected.response.body, rejected.cause], [403, "no", undefined]);
  const failed = await host.connect(plugin({ connect: () => Promise.reject(new RangeError("why")) })).catch((error) => error);
  assert.deepEqual([failed.statusCode, failed.response, failed.cause.message], [502, undefined, "why"]);
  assert.deepEqual((await store.scan()).rows, []);
});

test("an error of the handler is what send throws, and the connection stays open", async () => {
  const peer = await new Host().connect(plugin({ message: () => ({ unexpected: 1 }) }));
  await assert.rejects(peer.send("x"), /it should return nothing, a string, a Uint8Array or/);
  assert.ok(peer.isOpen);
  await peer.close(4000, "bye");
  assert.deepEqual(peer.closeFrame, { code: 4000, reason: "bye" });
  await assert.rejects(peer.send("x"), /the connection is closed/);
});

test("a trap fails the event even if its handler catches it", async () => {
  const peer = await new Host().connect(plugin({
    message: (event, context) => connections.deleteConnection(context.connectionId, { code: 1006 }).catch(() => "caught"),
  }));
  await assert.rejects(peer.send("x"), /1006 is not a close code that can be sent/);
});

test("messages of one connection are handled one after the other", async () => {
  const seen = [];
  const peer = await new Host().connect(plugin({
    async message({ body }) {
      await new Promise((resolve) => setTimeout(resolve, body === "first" ? 20 : 0));
      seen.push(body);
    },
  }));
  await Promise.all([peer.send("first"), peer.send("second"), peer.close()]);
  assert.deepEqual(seen, ["first", "second"]);
});

test("events of several connections have their own context, also after they have waited", async () => {
  const host = new Host();
  const handler = plugin({
    async message() {
      await new Promise((resolve) => setImmediate(resolve));
      return currentConnection.context().identity.sourceIp;
    },
  });
  const peers = await Promise.all(["192.0.2.1", "192.0.2.2"].map((sourceIp) => host.connect(handler, "", { sourceIp })));
  const replies = await Promise.all(peers.map((peer) => peer.send("x")));
  assert.deepEqual(replies.map(({ body }) => body), ["192.0.2.1", "192.0.2.2"]);
  assert.throws(() => currentConnection.event(), /while no event is handled/);
});

test("the routes of routes() are selected by the action, and sendTo selects any", async () => {
  const peer = await new Host().connect(routes({ join: () => "joined", $default: (event, { routeKey }) => routeKey }));
  assert.equal((await peer.send('{"action":"join"}')).body, "joined");
  assert.equal((await peer.send('{"action":"leave"}')).body, "$default");
  assert.equal((await peer.sendTo("other", "")).body, "other");
});

test("posts are counted for each peer, and can be made to fail", async () => {
  const host = new Host();
  const [a, b] = [await host.connect(none), await host.connect(none)];
  const bytes = Uint8Array.of(1, 2);
  await connections.postToConnection(b.id, bytes);
  bytes.fill(0);
  await connections.postToConnection(b.id, "lone \ud800");
  assert.deepEqual(host.postsTo(b), [Uint8Array.of(1, 2), "lone \ufffd"]);
  assert.deepEqual(host.takePostsTo(b).length, 2);
  assert.deepEqual([host.postsTo(a), host.postsTo(b)], [[], []]);
  host.failPostsTo(a, LimitExceededError);
  await assert.rejects(connections.postToConnection(a.id, "x"), LimitExceededError);
  await b.close();
  await assert.rejects(connections.postToConnection(b.id, "x"), GoneError);
});

test("the errors of $disconnect of a connection that a handler has deleted are kept", async () => {
  const host = new Host();
  const other = await host.connect(plugin({ disconnect: () => { throw new Error("at the end"); } }));
  const peer = await host.connect(plugin({ message: () => connections.deleteConnection(other.id) }));
  await peer.send("x");
  assert.deepEqual(host.failures().map((error) => error.message), ["at the end"]);
  assert.equal(other.closeFrame.code, 1000);
});

test("an authorizer grants, denies or does not know the peer", async () => {
  const host = new Host();
  const decide = authorizer(({ query }) => (query.has("user") ? { principalId: query.get("user"), context: { admin: true } } : "unauthorized"));
  assert.deepEqual(await host.authorize(decide, "?user=A"), { principalId: "A", context: { admin: "true" } });
  assert.equal(await host.authorize(decide), "unauthorized");
  assert.equal(await host.authorize(authorizer(() => "deny")), "deny");
  const large = (bytes) => authorizer(() => ({ principalId: "p", context: { a: "x".repeat(bytes) } }));
  const rest = 8 * 1024 - "principalId".length - "p".length - "a".length;
  assert.equal((await host.authorize(large(rest))).principalId, "p");
  await assert.rejects(host.authorize(large(rest + 1)), /the authorizer granted 8193 bytes; the maximum is 8192/);
  await assert.rejects(host.authorize(none), /an authorizer was expected/);
});

test("functions in the style of Lambda get the event of API Gateway", async () => {
  const host = new Host();
  const lambda = async (event, { awsRequestId }) => {
    const { eventType, requestId, connectedAt } = event.requestContext;
    const body = JSON.stringify([eventType, event.body ?? event.multiValueQueryStringParameters, requestId === awsRequestId, connectedAt]);
    return { statusCode: 200, body };
  };
  const peer = await host.connect(lambda, "?a=1&a=2");
  assert.equal(peer.response.body, '["CONNECT",{"a":["1","2"]},true,1700000000000]');
  assert.equal((await peer.send("hi")).body, '["MESSAGE","hi",true,1700000000000]');
  const callback = (event, context, done) => setTimeout(() => done(null, { statusCode: 200, body: event.requestContext.requestTime }), 1);
  assert.equal((await (await host.connect(callback)).send("x")).body, "14/Nov/2023:22:13:20 +0000");
  const policy = async (event) => ({
    principalId: "p",
    policyDocument: { Statement: [{ Effect: "Allow", Action: "execute-api:Invoke", Resource: event.methodArn }] },
  });
  assert.deepEqual(await host.authorize(policy), { principalId: "p", context: {} });
});

test("buckets, configuration and log are those of the host that was made last, or of run", async () => {
  const [first, second] = [new Host(), new Host()];
  first.setConfig("name", "first");
  second.setConfig("name", "second");
  first.addBucket("data");
  log.critical("a", { b: 1 });
  assert.equal(await config.get("name"), "second");
  await assert.rejects(kv.open("data"), { name: "KvError", statusCode: 403 });
  await first.run(async () => {
    const bucket = await kv.open("data");
    await bucket.set("b", "2");
    await bucket.set("a", "1");
    const keys = [];
    for await (const key of bucket.keys()) keys.push(key);
    assert.deepEqual(keys, ["a", "b"]);
    assert.equal(await bucket.update("a", (value) => `${new TextDecoder().decode(value)}1`), "11");
    assert.equal(await bucket.increment("a", 2n ** 60n), 11n + 2n ** 60n);
    await assert.rejects(bucket.increment("a", 2n ** 63n), RangeError);
    assert.equal(await config.get("name"), "first");
  });
  assert.deepEqual(second.logs(), [{ level: "critical", message: "a { b: 1 }" }]);
  assert.deepEqual(first.logs(), []);
});

test("a handler cannot use the peers of its test", async () => {
  const host = new Host();
  const peer = await host.connect(plugin({ message: () => peer.send("again") }));
  await assert.rejects(peer.send("x"), /a handler must not call the methods of a Host or a Peer/);
});
