async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("a ReadableStream is read by a reader and by a loop", async () => {
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue("a");
      controller.enqueue("b");
      controller.close();
    },
  });
  const reader = stream.getReader();
  assert.deepEqual(await reader.read(), { value: "a", done: false });
  assert.equal(stream.locked, true);
  reader.releaseLock();
  assert.deepEqual(await all(stream), ["b"]);
  assert.deepEqual(await all(ReadableStream.from([1, 2])), [1, 2]);
});

test("a stream is pulled only as far as it is read", async () => {
  let pulled = 0;
  const stream = new ReadableStream({ pull(controller) { controller.enqueue(++pulled); } }, { highWaterMark: 0 });
  const reader = stream.getReader();
  await reader.read();
  assert.equal(pulled, 1);
  let reason;
  const other = new ReadableStream({ cancel(why) { reason = why; } });
  await other.cancel("enough");
  assert.equal(reason, "enough");
});

test("an error of a source reaches the reader", async () => {
  const stream = new ReadableStream({ pull() { throw new RangeError("broken"); } });
  await assert.rejects(stream.getReader().read(), "RangeError", "broken");
});

test("a WritableStream writes in order", async () => {
  const written = [];
  const stream = new WritableStream({ async write(chunk) { await null; written.push(chunk); }, close() { written.push("end"); } });
  const writer = stream.getWriter();
  writer.write(1);
  writer.write(2);
  await writer.close();
  assert.deepEqual(written, [1, 2, "end"]);
});

test("streams are piped through transformations", async () => {
  const upper = new TransformStream({ transform(chunk, controller) { controller.enqueue(chunk.toUpperCase()); } });
  assert.deepEqual(await all(ReadableStream.from(["a", "b"]).pipeThrough(upper)), ["A", "B"]);
  const controller = new AbortController();
  const endless = new ReadableStream({ pull(control) { control.enqueue("x"); } });
  const piped = endless.pipeTo(new WritableStream({ write() { controller.abort(new Error("stop")); } }), { signal: controller.signal });
  await assert.rejects(piped, "Error", "stop");
});

test("a stream is divided by tee", async () => {
  const [one, two] = ReadableStream.from(["a", "b"]).tee();
  assert.deepEqual(await Promise.all([all(one), all(two)]), [["a", "b"], ["a", "b"]]);
});

test("a byte stream fills a buffer of the reader", async () => {
  const stream = new ReadableStream({
    type: "bytes",
    pull(controller) {
      const { byobRequest } = controller;
      byobRequest.view[0] = 7;
      byobRequest.respond(1);
    },
  });
  const { value } = await stream.getReader({ mode: "byob" }).read(new Uint8Array(4));
  assert.deepEqual([...value], [7]);
});

test("text streams encode and decode, also characters that are divided between chunks", async () => {
  const bytes = new TextEncoder().encode("aä€😀");
  const source = ReadableStream.from([...bytes].map((byte) => new Uint8Array([byte])));
  assert.equal((await all(source.pipeThrough(new TextDecoderStream()))).join(""), "aä€😀");
  const encoded = await all(ReadableStream.from(["a\ud83d", "\ude00", "\ud800"]).pipeThrough(new TextEncoderStream()));
  assert.equal(new TextDecoder().decode(new Uint8Array(encoded.flatMap((chunk) => [...chunk]))), "a😀\ufffd");
});
