test("structuredClone copies in depth, with cycles and shared parts", () => {
  const shared = { n: 1 };
  const value = { a: [1, "x", null, undefined, true], shared, again: shared };
  value.self = value;
  const copy = structuredClone(value);
  assert.ok(copy !== value);
  assert.equal(copy.self, copy);
  assert.equal(copy.again, copy.shared);
  assert.ok(copy.shared !== shared);
  assert.deepEqual(copy.a, [1, "x", null, undefined, true]);
  assert.equal(structuredClone(12n), 12n);
  assert.ok(Object.is(structuredClone(-0), -0));
});

test("a property with the name __proto__ stays a property", () => {
  const copy = structuredClone(JSON.parse('{"__proto__": {"admin": true}}'));
  assert.deepEqual(Object.keys(copy), ["__proto__"]);
  assert.equal(copy.admin, undefined);
  assert.equal(Object.getPrototypeOf(copy), Object.prototype);
});

test("structuredClone copies what JSON cannot", () => {
  const copy = structuredClone({
    date: new Date(5), map: new Map([["k", new Set([1, 2])]]), pattern: /a+/gi, boxed: Object("s"), big: Object(5n),
  });
  assert.ok(copy.date instanceof Date);
  assert.equal(copy.date.getTime(), 5);
  assert.deepEqual([...copy.map.get("k")], [1, 2]);
  assert.equal(String(copy.pattern), "/a+/gi");
  assert.equal(typeof copy.boxed, "object");
  assert.equal(String(copy.boxed), "s");
  assert.equal(copy.big.valueOf(), 5n);
});

test("structuredClone copies buffers and views, which share their buffer in the copy too", () => {
  const buffer = new Uint8Array([1, 2, 3, 4]).buffer;
  const copy = structuredClone({ a: new Uint8Array(buffer, 1, 2), b: new DataView(buffer), c: buffer, d: new Float64Array([1.5]) });
  assert.deepEqual([...copy.a], [2, 3]);
  assert.equal(copy.a.buffer, copy.c);
  assert.equal(copy.b.buffer, copy.c);
  assert.ok(copy.c !== buffer);
  assert.equal(copy.d[0], 1.5);
});

test("structuredClone copies errors with name, message, cause and stack", () => {
  const copy = structuredClone(new RangeError("bad", { cause: { code: 1 } }));
  assert.ok(copy instanceof RangeError);
  assert.equal(copy.message, "bad");
  assert.equal(copy.cause.code, 1);
  assert.equal(typeof copy.stack, "string");
  class Own extends Error { name = "Own"; }
  const own = structuredClone(new Own("x"));
  assert.equal(own.name, "Error");
  assert.equal(own.message, "x");
});

test("structuredClone moves what is transferred", () => {
  const buffer = new ArrayBuffer(8);
  const view = new Uint8Array(buffer);
  view[0] = 9;
  const copy = structuredClone({ view }, { transfer: [buffer] });
  assert.equal(copy.view[0], 9);
  assert.equal(buffer.byteLength, 0);
  assert.throws(() => structuredClone(1, { transfer: [{}] }), "DataCloneError");
  assert.throws(() => structuredClone(1, { transfer: [buffer] }), "DataCloneError");
});

test("structuredClone refuses what cannot be copied", () => {
  assert.throws(() => structuredClone(() => 1), "DataCloneError");
  assert.throws(() => structuredClone({ deep: [Symbol("s")] }), "DataCloneError");
  assert.throws(() => structuredClone(new WeakMap()), "DataCloneError");
  assert.throws(() => structuredClone(Promise.resolve()), "DataCloneError");
});

test("an instance of a class becomes a plain object without its methods", () => {
  class Point { constructor() { this.x = 1; } get y() { return 2; } move() {} }
  const copy = structuredClone(new Point());
  assert.equal(Object.getPrototypeOf(copy), Object.prototype);
  assert.deepEqual(copy, { x: 1 });
});

test("structuredClone copies sparse arrays and a Blob", async () => {
  const sparse = [1, , 3];
  const copy = structuredClone(sparse);
  assert.equal(copy.length, 3);
  assert.equal(1 in copy, false);
  if (typeof process === "undefined" || !process.versions?.v8) {
    const file = structuredClone(new File(["abc"], "n.txt", { type: "text/plain" }));
    assert.equal(file.name, "n.txt");
    assert.equal(await file.text(), "abc");
  }
});
