// Timers, microtasks, load time and event time. Each route's answer is JSON.
import { routes } from "jackfield";

const loadedAt = Date.now();
const again = Date.now();
const random = Math.random();
const awaited = await Promise.resolve("awaited");

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export default routes({
  async order() {
    const order = [];
    const start = performance.now();
    setTimeout(() => order.push("40"), 40);
    setTimeout(order.push.bind(order), 10, "10");
    setImmediate(() => order.push("immediate"));
    queueMicrotask(() => order.push("microtask"));
    clearTimeout(setTimeout(() => order.push("cleared"), 1));
    let ticks = 0;
    const interval = setInterval(() => {
      order.push("tick");
      if (++ticks === 2) clearInterval(interval);
    }, 15);
    await sleep(60);
    return JSON.stringify([order, performance.now() - start >= 59]);
  },
  load: () => JSON.stringify([loadedAt === again, loadedAt > 1e12, Date.now() >= loadedAt, random >= 0 && random < 1, awaited]),
  random: () => String(Math.random()),
  unref: async () => {
    setTimeout(() => {}, 3_600_000).unref();
    return "not held";
  },
});
