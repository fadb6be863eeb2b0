// What the echo does in JavaScript and in TypeScript, as tests.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Host } from "jackfield/testing";

export function testEcho(echo) {
  test("the content of an echo request comes back as text", async () => {
    const peer = await new Host().connect(echo);
    for (const [message, expected] of [
      ['{"action":"echo","content":"hello"}', "hello"],
      ['{"content":"a \\"b\\" \\u00e4\\n","action":"echo"}', 'a "b" ä\n'],
      ['{"action":"echo","content":"","more":[1,{"x":2.5}]}', ""],
    ]) {
      assert.equal((await peer.send(message)).body, expected);
    }
  });

  test("every other message comes back unchanged", async () => {
    const peer = await new Host().connect(echo);
    for (const message of ["", "hello", "{", "[1,2]", "null", '{"action":"dance"}', '{"action":"echo"}', '{"action":"echo","content":7}']) {
      assert.equal((await peer.send(message)).body, message);
    }
    const binary = Uint8Array.from([...new TextEncoder().encode('{"action":"echo","content":"x"}'), 255]);
    assert.deepEqual((await peer.send(binary)).body, binary);
  });
}
