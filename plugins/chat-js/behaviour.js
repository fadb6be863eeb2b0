// What the chat does in JavaScript and in TypeScript, as tests.

import assert from "node:assert/strict";
import { test } from "node:test";

import { store } from "jackfield";
import { Host } from "jackfield/testing";

export function testChat(chat) {
  const connect = (host, user) => host.connect(chat, `?userId=${user}`);
  const ask = async (peer, message) => (await peer.send(JSON.stringify(message))).body;
  const write = (to, content) => ({ action: "sendmessage", to, content });

  test("a message reaches every tab of its user", async () => {
    const host = new Host();
    const a = await connect(host, "A");
    const tabs = [await connect(host, "B"), await connect(host, "B")];
    assert.equal(await ask(a, write("B", "hello")), undefined);
    for (const tab of tabs) assert.deepEqual(host.postsTo(tab), ['{"type":"message","from":"A","content":"hello"}']);
  });

  test("the other tabs of the sender receive a copy", async () => {
    const host = new Host();
    const [a, other] = [await connect(host, "A"), await connect(host, "A")];
    await connect(host, "B");
    [a, other].forEach((tab) => host.takePostsTo(tab));
    await ask(a, write("B", "hello"));
    assert.deepEqual(host.postsTo(a), []);
    assert.deepEqual(host.postsTo(other), ['{"type":"sent","to":"B","content":"hello"}']);
  });

  test("a message that cannot be delivered gets an error", async () => {
    const a = await connect(new Host(), "A");
    for (const [message, error] of [
      [write("Z", "hello"), "Z is not here"],
      [write("Z"), 'a message needs "to" and "content"'],
      [{ action: "dance" }, 'there is no action "dance" here'],
      ["dance", 'a message is JSON with an "action"'],
    ]) {
      assert.equal(await ask(a, message), JSON.stringify({ type: "error", message: error }));
    }
  });

  test("a peer without a valid name is rejected", async () => {
    const host = new Host();
    for (const name of ["", "%20", "123456789012345678901234567890123"]) {
      await assert.rejects(connect(host, name), { name: "ConnectError", statusCode: 400 });
    }
    await assert.rejects(host.connect(chat), { statusCode: 400 });
    await connect(host, "12345678901234567890123456789012");
    assert.equal((await store.scan()).rows.length, 1);
  });

  test("a user joins with the first tab and leaves with the last", async () => {
    const host = new Host();
    const a = await connect(host, "A");
    const first = await connect(host, "B");
    assert.deepEqual(host.takePostsTo(a), ['{"type":"joined","user":"B"}']);
    const second = await connect(host, "B");
    await first.close();
    assert.deepEqual(host.takePostsTo(a), []);
    assert.equal(await ask(a, { action: "who" }), '{"type":"who","users":["A","B"]}');
    await second.close();
    assert.deepEqual(host.takePostsTo(a), ['{"type":"left","user":"B"}']);
    assert.equal(await ask(a, { action: "who" }), '{"type":"who","users":["A"]}');
  });
}
