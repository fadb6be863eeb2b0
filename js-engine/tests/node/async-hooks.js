import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";

test("AsyncLocalStorage keeps its value across await, then, timers and ticks", async () => {
  const storage = new AsyncLocalStorage();
  const seen = await storage.run("outer", async () => {
    const values = [storage.getStore()];
    await null;
    values.push(storage.getStore());
    await undefined;
    values.push(storage.getStore());
    await new Promise((resolve) => setTimeout(resolve, 1));
    values.push(storage.getStore());
    await Promise.resolve(1).then(() => values.push(storage.getStore()));
    await new Promise((resolve) => process.nextTick(() => resolve(values.push(storage.getStore()))));
    await new Promise((resolve) => queueMicrotask(() => resolve(values.push(storage.getStore()))));
    await new Promise((resolve) => setImmediate(() => resolve(values.push(storage.getStore()))));
    try {
      await Promise.reject(new Error("x"));
    } catch {
      values.push(storage.getStore());
    }
    await { then: (resolve) => resolve() };
    values.push(storage.getStore());
    for await (const _ of [1, Promise.resolve(2)]) values.push(storage.getStore());
    return values;
  });
  assert.deepEqual(seen, Array(12).fill("outer"));
  assert.equal(storage.getStore(), undefined);
});

test("contexts that run at the same time do not mix", async () => {
  const storage = new AsyncLocalStorage();
  const work = async (id) => {
    const values = [];
    for (let i = 0; i < 5; i++) {
      values.push(storage.getStore());
      if (i % 3 === 0) await null;
      else if (i % 3 === 1) await Promise.resolve();
      else await new Promise((resolve) => setTimeout(resolve, id % 2));
    }
    await Promise.all([1, 2].map(async () => { await undefined; values.push(storage.getStore()); }));
    return values.every((value) => value === id);
  };
  const results = await Promise.all([1, 2, 3, 4].map((id) => storage.run(id, work, id)));
  assert.deepEqual(results, [true, true, true, true]);
  const shared = new Promise((resolve) => setTimeout(resolve, 2));
  const waiting = [5, 6].map((id) => storage.run(id, async () => { await shared; return storage.getStore(); }));
  assert.deepEqual(await Promise.all(waiting), [5, 6]);
});

test("run, exit, enterWith, bind and snapshot", async () => {
  const storage = new AsyncLocalStorage();
  const other = new AsyncLocalStorage();
  storage.run(1, () => {
    other.run(2, () => assert.deepEqual([storage.getStore(), other.getStore()], [1, 2]));
    storage.exit(() => assert.equal(storage.getStore(), undefined));
    assert.throws(() => storage.run(3, () => { throw new Error("out"); }), "Error", "out");
    assert.equal(storage.getStore(), 1);
  });
  const bound = storage.run(4, () => AsyncLocalStorage.bind(() => storage.getStore()));
  assert.equal(bound(), 4);
  const snapshot = storage.run(5, () => AsyncLocalStorage.snapshot());
  assert.equal(snapshot(() => storage.getStore()), 5);
  const resource = storage.run(6, () => new AsyncResource("R"));
  assert.equal(resource.runInAsyncScope(() => storage.getStore()), 6);
  await (async () => {
    storage.enterWith(7);
    await null;
    assert.equal(storage.getStore(), 7);
  })();
});

test("promises work as before once a storage exists", async () => {
  new AsyncLocalStorage();
  class Special extends Promise {}
  assert.ok(Special.resolve(1).then(() => 2) instanceof Special);
  assert.equal(await Special.resolve(3), 3);
  assert.equal(Promise.resolve().constructor, Promise);
  const promise = Promise.resolve(1);
  assert.equal(Promise.resolve(promise), promise);
  assert.equal(await Promise.resolve(1).finally(() => 9), 1);
  await assert.rejects(Promise.reject(new RangeError("r")).finally(() => {}), "RangeError", "r");
  assert.deepEqual(await Promise.allSettled([1, Promise.reject(2)]), [{ status: "fulfilled", value: 1 }, { status: "rejected", reason: 2 }]);
  const order = [];
  await Promise.all([
    (async () => { order.push(1); await null; order.push(3); await null; order.push(5); })(),
    (async () => { order.push(2); await null; order.push(4); await null; order.push(6); })(),
  ]);
  assert.deepEqual(order, [1, 2, 3, 4, 5, 6]);
});
