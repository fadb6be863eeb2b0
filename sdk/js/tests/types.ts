// Checked by tsc, never run: the types of "jackfield/testing" with what tests do.

import { LimitExceededError, authorizer, currentConnection, kv, plugin, routes, store } from "jackfield";
import { ConnectError, Host } from "jackfield/testing";
import type { HandlerResponse, Peer } from "jackfield/testing";

const host = new Host({ routes: ["join"] });
const peer: Peer = await host.connect(plugin({ message: (event) => event.body }), "?a=b", { headers: { a: "b" }, authorizer: { n: 1 } });
await host.connect(routes({ $default: (event) => event.json() }), "", { headers: [["a", "b"]], sourceIp: "192.0.2.1" });
await host.connect(async (event: { body: string }) => ({ statusCode: 200, body: event.body }));
const response: HandlerResponse = await peer.send(new Uint8Array());
const body: string | Uint8Array | undefined = (await peer.sendTo("join", "x")).body ?? response.body;
const decision = await host.authorize(authorizer(() => "deny"));
const principal: string = decision === "deny" || decision === "unauthorized" ? decision : decision.principalId;
host.addBucket("data", { size: 1024, keys: 2 });
host.failPostsTo(peer, LimitExceededError);
host.setConfig("a", "b");
host.setStageVariable("a", "b");
host.advance(1000);
const posts: (string | Uint8Array)[] = [...host.postsTo(peer), ...host.takePostsTo(peer)];
const status: number = await host.connect(plugin({})).then(() => 200, (error: ConnectError) => error.statusCode);
const rows: string[] = await host.run(async () => {
  const ids: string[] = [];
  for await (const row of store.queryAll("a", 1)) ids.push(row.connectionId);
  for await (const key of (await kv.open("data")).keys()) ids.push(key);
  const sum: bigint = await kv.bucket("data").increment("n", 1n);
  const handle = await kv.bucket("data").cas("n");
  const isWritten: boolean = await handle.swap(`${(await handle.current())?.length} ${sum}`);
  return isWritten ? ids : [currentConnection.context().apiId];
});
await peer.close(4000, "bye");
console.log(body, principal, posts, status, rows, host.logs()[0]?.level, host.failures(), peer.closeFrame?.code, peer.isOpen);

// @ts-expect-error: a message is a string or bytes.
await peer.send({ action: "join" });
// @ts-expect-error: peers are made by a host.
new ConnectError();
// @ts-expect-error: an increment is a number.
await kv.bucket("data").increment("n", "1");
