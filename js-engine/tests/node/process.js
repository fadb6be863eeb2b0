import defaultProcess, { env, nextTick } from "node:process";

const nameAtLoad = process.env.NAME;

test("process says that it is node on linux, with the environment of the manifest", () => {
  assert.equal(defaultProcess, process);
  assert.equal(env, process.env);
  assert.equal(process.platform, "linux");
  // host/tests/engine.rs sets it in the manifest.
  assert.deepEqual([nameAtLoad, env.NAME], ["value", "value"]);
  assert.ok(/^v\d+\.\d+\.\d+$/.test(process.version));
  assert.equal(`v${process.versions.node}`, process.version);
  assert.equal(Object.prototype.toString.call(process), "[object process]");
  process.env.SET_HERE = "1";
  assert.equal(env.SET_HERE, "1");
  delete process.env.SET_HERE;
  assert.equal(process.env.SET_HERE, undefined);
});

test("nextTick runs before promises that are already settled, and with its arguments", async () => {
  const order = [];
  await new Promise((resolve) => {
    setTimeout(() => {
      Promise.resolve().then(() => {
        order.push("promise 1");
        process.nextTick(() => order.push("tick from promise"));
        Promise.resolve().then(() => order.push("promise 2"));
      });
      queueMicrotask(() => order.push("microtask"));
      process.nextTick((a, b) => order.push(`tick ${a}${b}`), 1, 2);
      nextTick(() => {
        order.push("tick");
        Promise.resolve().then(() => order.push("promise from tick"));
        nextTick(() => order.push("tick from tick"));
      });
      setImmediate(resolve);
      order.push("sync");
    }, 1);
  });
  assert.deepEqual(order, [
    "sync",
    "tick 12",
    "tick",
    "tick from tick",
    "promise 1",
    "microtask",
    "promise from tick",
    "promise 2",
    "tick from promise",
  ]);
});

test("time is measured", () => {
  const start = process.hrtime();
  const big = process.hrtime.bigint();
  assert.ok(start.length === 2 && start[1] < 1e9 && typeof big === "bigint");
  const [seconds, nanoseconds] = process.hrtime(start);
  assert.ok(seconds >= 0 && seconds < 60 && nanoseconds >= 0);
  assert.ok(process.uptime() >= 0);
  assert.ok(process.memoryUsage().heapUsed >= 0 && process.memoryUsage.rss() >= 0);
  assert.equal(process.cwd().startsWith("/"), true);
});

test("listeners are accepted", () => {
  assert.equal(process.on("SIGTERM", () => {}), process);
  process.once("exit", () => {}).off("exit", () => {});
});
