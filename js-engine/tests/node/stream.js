import stream, { PassThrough, Readable, Transform, Writable, pipeline as callbackPipeline } from "node:stream";
import { finished, pipeline } from "node:stream/promises";
import { text } from "node:stream/consumers";
import util from "node:util";

test("a pipeline of streams ends, and transforms", async () => {
  const chunks = [];
  const upper = new Transform({ transform: (chunk, _, callback) => callback(null, chunk.toString().toUpperCase()) });
  const sink = new Writable({
    write(chunk, _, callback) {
      chunks.push(chunk.toString());
      callback();
    },
  });
  await pipeline(Readable.from(["a", "b", "c"]), upper, sink);
  assert.equal(chunks.join(""), "ABC");
});

test("async iteration, async generators and object mode", async () => {
  const all = [];
  for await (const chunk of Readable.from([{ n: 1 }, { n: 2 }])) all.push(chunk.n);
  assert.deepEqual(all, [1, 2]);
  const out = new PassThrough();
  await pipeline(
    Readable.from(["1", "2"]),
    async function* (source) {
      for await (const chunk of source) yield `<${chunk}>`;
    },
    out,
  );
  assert.equal(await text(out), "<1><2>");
  assert.deepEqual(await Readable.from([1, 2, 3]).map((n) => n * 2).toArray(), [2, 4, 6]);
});

test("an error destroys the pipeline", async () => {
  const broken = new Transform({ transform: (chunk, _, callback) => callback(new RangeError("broken")) });
  await assert.rejects(pipeline(Readable.from(["a"]), broken, new PassThrough()), "RangeError", "broken");
  const error = await new Promise((resolve) => callbackPipeline(Readable.from(["a"]), new PassThrough({ transform: (c, e, callback) => callback(new TypeError("x")) }), resolve));
  assert.equal(error.name, "TypeError");
  const readable = new Readable({ read() {} });
  setImmediate(() => readable.destroy(new Error("gone")));
  await assert.rejects(finished(readable), "Error", "gone");
});

// Packages of the time before Readable, such as jws, inherit from the module itself.
test("the class is the module, and its Buffer is the global one", async () => {
  assert.equal(stream.Readable, Readable);
  assert.ok(stream.Stream === stream && stream !== Readable && new Readable() instanceof stream);
  function Old() {}
  util.inherits(Old, stream);
  const old = new Old();
  const chunks = [];
  old.once("data", (chunk) => chunks.push(chunk));
  old.pipe(new Writable({ objectMode: true, write(chunk, _, callback) { chunks.push(chunk); callback(); } }));
  old.emit("data", "a");
  old.emit("data", "b");
  assert.deepEqual(chunks, ["a", "a", "b"]);
  assert.equal(util.promisify(callbackPipeline), pipeline);
  const readable = Readable.from(Buffer.from("ab"));
  for await (const chunk of readable) assert.ok(Buffer.isBuffer(chunk));
});
