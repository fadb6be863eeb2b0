test("WebAssembly is refused by name", async () => {
  await assert.rejects(WebAssembly.instantiate(new Uint8Array(8)), "Error", "WebAssembly.instantiate is not available");
  await assert.rejects(WebAssembly.compile(new Uint8Array(8)), "Error", "WebAssembly.compile is not available");
  assert.throws(() => new WebAssembly.Module(new Uint8Array(8)), "Error", "WebAssembly.Module is not available");
});

test("compression streams are refused by name", () => {
  assert.throws(() => new CompressionStream("gzip"), "Error", "CompressionStream is not available");
  assert.throws(() => new DecompressionStream("gzip"), "Error", "DecompressionStream is not available");
});

test("object URLs are refused by name", () => {
  assert.throws(() => URL.createObjectURL(new Blob([])), "Error", "URL.createObjectURL is not available");
});

test("globals of the web platform are not enumerable and can be replaced", () => {
  assert.ok(!Object.keys(globalThis).includes("fetch"));
  assert.equal(Object.getOwnPropertyDescriptor(globalThis, "URL").writable, true);
  assert.equal(self, globalThis);
});

test("what is disposed of and what is iterated asynchronously has its symbols", async () => {
  assert.equal(typeof Symbol.dispose, "symbol");
  assert.equal(typeof Symbol.asyncDispose, "symbol");
  assert.equal(typeof ReadableStream.prototype[Symbol.asyncIterator], "function");
  assert.deepEqual(await Array.fromAsync(ReadableStream.from([1, 2])), [1, 2]);
});
