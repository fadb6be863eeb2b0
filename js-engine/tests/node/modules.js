import assertModule, { deepStrictEqual, AssertionError } from "node:assert";
import strict from "node:assert/strict";
import { EventEmitter, once, on, errorMonitor, getEventListeners } from "node:events";
import os, { EOL } from "node:os";
import path, { posix } from "node:path";
import querystring from "node:querystring";
import { StringDecoder } from "node:string_decoder";
import timersPromises, { setTimeout as sleep } from "node:timers/promises";
import url, { fileURLToPath, pathToFileURL } from "node:url";
import util, { callbackify, format, inspect, inherits, isDeepStrictEqual, promisify, types } from "node:util";
import bareEvents from "events";
import bareUtil from "util";
import { types as typesModule } from "util";
import { channel } from "node:diagnostics_channel";

test("events: listeners, once, errors and async iteration", async () => {
  assert.equal(bareEvents, EventEmitter);
  const emitter = new EventEmitter();
  const seen = [];
  emitter.on("x", (value) => seen.push(value));
  emitter.prependListener("x", () => seen.push("first"));
  emitter.once("x", () => seen.push("once"));
  emitter.emit("x", 1);
  emitter.emit("x", 2);
  assert.deepEqual(seen, ["first", 1, "once", "first", 2]);
  assert.equal(getEventListeners(emitter, "x").length, 2);
  assert.throws(() => emitter.emit("error", new RangeError("bad")), "RangeError", "bad");
  const observed = [];
  emitter.on(errorMonitor, (error) => observed.push(error.message));
  assert.throws(() => emitter.emit("error", new Error("seen")), "Error", "seen");
  assert.deepEqual(observed, ["seen"]);
  setImmediate(() => emitter.emit("y", 1, 2));
  assert.deepEqual(await once(emitter, "y"), [1, 2]);
  setImmediate(() => {
    emitter.emit("z", "a");
    emitter.emit("z", "b");
  });
  const all = [];
  for await (const [value] of on(emitter, "z")) {
    all.push(value);
    if (value === "b") break;
  }
  assert.deepEqual(all, ["a", "b"]);
  class Child extends EventEmitter {}
  assert.equal(new Child().on("a", () => {}).listenerCount("a"), 1);
});

test("path joins, resolves and parses", () => {
  assert.equal(path.join("/a", "..", "b", "./c"), "/b/c");
  assert.equal(posix.resolve("/a", "b"), "/a/b");
  assert.equal(path.relative("/a/b", "/a/c/d"), "../c/d");
  assert.deepEqual(path.parse("/x/y.tar.gz"), { root: "/", dir: "/x", base: "y.tar.gz", ext: ".gz", name: "y.tar" });
  assert.deepEqual([path.basename("/x/y.js", ".js"), path.extname("a.b.c"), path.isAbsolute("a")], ["y", ".c", false]);
});

test("url: parse, format, resolve and file URLs", () => {
  const parsed = url.parse("https://u:p@h.example:8080/p/a?x=1&y=a%20b&x=2#f", true);
  assert.deepEqual([parsed.protocol, parsed.auth, parsed.host, parsed.pathname, parsed.hash], ["https:", "u:p", "h.example:8080", "/p/a", "#f"]);
  assert.deepEqual({ ...parsed.query }, { x: ["1", "2"], y: "a b" });
  assert.equal(url.format({ protocol: "http", host: "a.b", pathname: "/c", query: { d: 1 } }), "http://a.b/c?d=1");
  assert.equal(url.resolve("/one/two/three", "four"), "/one/two/four");
  assert.equal(fileURLToPath("file:///a%20b/c"), "/a b/c");
  assert.equal(pathToFileURL("/a b#c?d").href, "file:///a%20b%23c%3Fd");
  assert.throws(() => fileURLToPath("http://a/"), "TypeError", "scheme file");
  assert.equal(new url.URL("http://a/b").pathname, "/b");
  assert.equal(url.urlToHttpOptions(new URL("http://a:b@h:1/p?q")).auth, "a:b");
});

test("querystring parses and writes", () => {
  assert.deepEqual({ ...querystring.parse("a=1&b=%41+c&a=2&d&=e&%zz=%") }, { "": "e", "%zz": "%", a: ["1", "2"], b: "A c", d: "" });
  assert.equal(querystring.stringify({ a: [1, 2], b: "x y\u00e9", c: true, d: {}, e: null, f: 10n }), "a=1&a=2&b=x%20y%C3%A9&c=true&d=&e=&f=10");
  assert.equal(querystring.escape("a b&"), "a%20b%26");
  assert.equal(querystring.unescape("%41%zz"), "A%zz");
  assert.deepEqual({ ...querystring.parse("a:1;b:2", ";", ":") }, { a: "1", b: "2" });
});

test("string_decoder keeps parts of characters", () => {
  const decoder = new StringDecoder("utf8");
  assert.equal(decoder.write(Buffer.from([0xe2, 0x82])), "");
  assert.equal(decoder.write(Buffer.from([0xac, 0x61])), "\u20aca");
  assert.equal(decoder.end(Buffer.from([0xe2])), "\ufffd");
  const base64 = new StringDecoder("base64");
  assert.equal(base64.write(Buffer.from("a")) + base64.end(Buffer.from("bc")), "YWJj");
});

test("util.format and inspect write as node does", () => {
  assert.equal(format("%s %d %i %f %j %%", "a", "1", 2.5, "3.5", { b: 1 }), 'a 1 2 3.5 {"b":1} %');
  assert.equal(format("a", 1, { b: "c" }), "a 1 { b: 'c' }");
  assert.equal(
    inspect({ map: new Map([["k", { deep: { deeper: { deepest: 1 } } }]]), set: new Set([1n]), f() {}, s: Symbol("x"), n: null }),
    "{\n  map: Map(1) { 'k' => { deep: [Object] } },\n  set: Set(1) { 1n },\n  f: [Function: f],\n  s: Symbol(x),\n  n: null\n}",
  );
  assert.equal(inspect({ a: { b: { c: {} } } }, { depth: 0 }), "{ a: [Object] }");
  assert.equal(inspect("it's"), '"it\'s"');
  assert.equal(inspect(Buffer.from("ab")), "<Buffer 61 62>");
  assert.equal(inspect(new (class Point { x = 1; })()), "Point { x: 1 }");
  assert.equal(inspect({ [inspect.custom]: () => "mine" }), "mine");
  assert.equal(inspect(new Date(0)), "1970-01-01T00:00:00.000Z");
});

test("util: promisify, callbackify, inherits, deprecate and types", async () => {
  assert.equal(bareUtil, util);
  assert.equal(typesModule, types);
  assert.equal(await promisify((a, callback) => callback(null, a + 1))(1), 2);
  await assert.rejects(promisify((callback) => callback(new RangeError("no")))(), "RangeError", "no");
  assert.equal(await promisify(setTimeout)(1, "late"), "late");
  const called = new Promise((resolve) => callbackify(async () => 5)((error, value) => resolve([error, value])));
  assert.deepEqual(await called, [null, 5]);
  function Base() {}
  function Child() {}
  inherits(Child, Base);
  assert.ok(new Child() instanceof Base && Child.super_ === Base);
  assert.deepEqual(
    [types.isDate(new Date()), types.isPromise(Promise.resolve()), types.isRegExp({}), types.isUint8Array(Buffer.alloc(1)), types.isMap(new Map())],
    [true, true, false, true, true],
  );
  assert.ok(types.isAsyncFunction(async () => {}) && !types.isAsyncFunction(() => {}));
  assert.ok(isDeepStrictEqual({ a: [1, new Map([[1, 2]])] }, { a: [1, new Map([[1, 2]])] }));
  assert.equal(isDeepStrictEqual({ a: 1 }, { a: "1" }), false);
  assert.equal(util.stripVTControlCharacters("\u001b[31mred\u001b[39m"), "red");
  assert.equal(new util.TextEncoder().encode("a")[0], 97);
});

test("assert compares and reports", () => {
  assertModule(true);
  deepStrictEqual({ a: [1] }, { a: [1] });
  assert.throws(() => deepStrictEqual({ a: 1 }, { a: 2 }), "AssertionError", "deep");
  assert.throws(() => strict.equal(1, "1"), "AssertionError");
  assertModule.equal(1, "1");
  assertModule.throws(() => { throw new TypeError("x"); }, TypeError);
  assertModule.match("abc", /b/);
  try {
    assertModule.strictEqual(1, 2);
  } catch (error) {
    assert.ok(error instanceof AssertionError && error.code === "ERR_ASSERTION" && error.actual === 1);
  }
});

test("os says that it is Linux, and timers have promises", async () => {
  assert.deepEqual([os.platform(), EOL, os.type()], ["linux", "\n", "Linux"]);
  assert.equal(await sleep(1, "slept"), "slept");
  assert.equal(await timersPromises.setImmediate("now"), "now");
  const controller = new AbortController();
  const waiting = sleep(60000, undefined, { signal: controller.signal });
  controller.abort();
  await assert.rejects(waiting, "AbortError");
  let count = 0;
  for await (const value of timersPromises.setInterval(1, "v")) if (value === "v" && ++count === 3) break;
  assert.equal(count, 3);
});

test("diagnostics_channel publishes to subscribers", () => {
  const seen = [];
  channel("c").subscribe((message, name) => seen.push([message, name]));
  assert.ok(channel("c").hasSubscribers);
  channel("c").publish(1);
  assert.deepEqual(seen, [[1, "c"]]);
});
