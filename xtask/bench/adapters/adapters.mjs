// Measures posts and broadcasts between nodes with Redis, for each tool of tools.mjs. See README.md.

import { execFile, spawn } from "node:child_process";
import { mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { tools } from "./tools.mjs";

const HERE = import.meta.dirname;
const ROOT = resolve(HERE, "../../..");
/** The files and the logs of each tool. */
const WORK = join(HERE, "work");
const START_MS_MAX = 30_000;
const NODES = 3;
const RECEIVERS = 3_000;

const HELP = `usage: npm start -- [--rounds N] [--secs N] [--rate N] [--jackfield PATH] [--relay PATH] [--load PATH] [--centrifugo PATH] [TOOL...]
tools: ${tools.map((tool) => tool.name).join(" ")}`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "5" },
    secs: { type: "string", default: "3" },
    rate: { type: "string", default: "2000" },
    jackfield: { type: "string", default: join(ROOT, "target/release/jackfield") },
    relay: { type: "string", default: join(ROOT, "plugins/target/wasm32-wasip2/release/relay.wasm") },
    load: { type: "string", default: join(ROOT, "target/bench/release/load") },
    centrifugo: { type: "string", default: "centrifugo" },
    help: { type: "boolean" },
  },
});

const unknown = positionals.filter((name) => !tools.some((tool) => tool.name === name));
if (options.help || unknown.length > 0) {
  console.log(HELP);
  process.exit(options.help ? 0 : 2);
}
for (const name of ["jackfield", "relay", "load", "centrifugo"]) {
  if (options[name].includes("/")) {
    options[name] = resolve(options[name]);
  }
}

/** Processes that run now. */
const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));
process.once("SIGINT", () => process.exit(130)).once("SIGTERM", () => process.exit(143));

const chosen = tools.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
const results = new Map(chosen.map((tool) => [tool, []]));
// Rounds are the outer loop, so that the tools are measured within the same minutes.
for (let round = 0; round < Number(options.rounds); round += 1) {
  for (const tool of [...chosen.slice(round % chosen.length), ...chosen.slice(0, round % chosen.length)]) {
    try {
      const values = await measure(tool);
      results.get(tool).push(values);
      console.error(`round ${round + 1}, ${tool.name}: ${JSON.stringify(values)}`);
    } catch (error) {
      console.error(`round ${round + 1}, ${tool.name} FAILED: ${error.stderr || error.message}`);
    }
  }
}

console.log(`| tool | post to another node at ${options.rate}/s, p50 | p99 | CPU of the nodes, each | CPU of Redis, each `
  + `| broadcast to ${RECEIVERS}, until the last one has it | CPU of the nodes, a delivery | CPU of Redis, each | rounds |`);
console.log("|---|---|---|---|---|---|---|---|---|");
for (const [tool, values] of results) {
  const cell = (name, unit, digits) => {
    const sorted = values.map((one) => one[name]).sort((a, b) => a - b);
    const number = (value) => value.toFixed(digits);
    const middle = (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
    return `${number(middle)} ${unit} (${number(sorted[0])} to ${number(sorted.at(-1))})`;
  };
  const cells = values.length === 0 ? Array(7).fill("-") : [
    cell("p50", "ms", 2), cell("p99", "ms", 2), cell("cpu", "us", 0), cell("redis", "us", 0),
    cell("complete", "ms", 1), cell("delivery", "us", 1), cell("broadcastRedis", "us", 0),
  ];
  console.log(`| ${tool.name} | ${cells.join(" | ")} | ${values.length} |`);
}

/** Starts a Redis and the nodes of a tool, and measures them. Each round has new processes. */
async function measure(tool) {
  const [redisPort, ...ports] = await freePorts(NODES + 1);
  const folder = join(WORK, tool.name);
  rmSync(folder, { recursive: true, force: true });
  try {
    const redis = start(["redis-server", "--port", String(redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], join(folder, "redis"));
    await listening(redisPort, redis);
    const nodes = [];
    for (const [index, port] of ports.entries()) {
      const node = { port, redis: `redis://127.0.0.1:${redisPort}` };
      const child = start(tool.command(node, options), join(folder, `node-${index + 1}`), tool.files(node, options));
      nodes.push({ port, child });
      await listening(port, child);
    }
    await sleep(500);
    const load = (nodesWithPeers, ...args) => run(tool, redis, nodes, nodesWithPeers, args);
    const post = await load(nodes.slice(0, 2), "--mode", "post", "--conns", "64", "--rate", options.rate);
    const broadcast = await load(nodes, "--mode", "broadcast", "--conns", String(RECEIVERS), "--rate", "5");
    return {
      p50: post.p50_us / 1e3,
      p99: post.p99_us / 1e3,
      cpu: post.server_cpu_us_per_msg,
      redis: post.store_cpu_us_per_msg,
      complete: broadcast.complete_us / 1e3,
      delivery: broadcast.server_cpu_us_per_msg,
      broadcastRedis: broadcast.store_cpu_us_per_msg * RECEIVERS,
    };
  } finally {
    await stopAll();
  }
}

async function run(tool, redis, nodes, nodesWithPeers, args) {
  const arguments_ = [
    ...tool.load, ...args, "--secs", options.secs, "--warm-up-secs", "2", "--precise", "--store-pid", String(redis.pid),
    ...nodesWithPeers.flatMap(({ port }) => ["--port", String(port)]),
    ...nodes.flatMap(({ child }) => ["--pid", String(child.pid)]),
  ];
  const { stdout } = await promisify(execFile)(options.load, arguments_);
  const outcome = JSON.parse(stdout);
  if (outcome.errors > 0 || outcome.messages === 0) {
    throw new Error(`${outcome.errors} errors, ${outcome.messages} messages; the first error: ${outcome.first_error}`);
  }
  return outcome;
}

/** Starts a process in a folder of its own with these files. */
function start([command, ...args], folder, files = {}) {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(folder, name), text);
  }
  const log = openSync(join(folder, "log"), "w");
  const child = spawn(command, args, { cwd: folder, stdio: ["ignore", log, log] });
  child.once("error", (error) => console.error(`cannot run ${command}: ${error.message}`));
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

async function stopAll() {
  const children = [...running];
  children.forEach((child) => child.kill("SIGKILL"));
  while (running.size > 0 && children.some((child) => child.pid !== undefined && child.exitCode === null && child.signalCode === null)) {
    await sleep(10);
  }
  running.clear();
}

/** Waits until something accepts connections on a port. */
async function listening(port, child) {
  const deadline = Date.now() + START_MS_MAX;
  for (;;) {
    const accepted = await new Promise((done) => {
      const socket = connect(port, "127.0.0.1", () => done(true)).once("error", () => done(false));
      socket.once("close", () => {}).unref();
      socket.once("connect", () => socket.destroy());
    });
    if (accepted) {
      return;
    }
    if (child.exitCode !== null || child.pid === undefined || Date.now() > deadline) {
      throw new Error(`nothing accepts connections on port ${port}; see the logs in ${WORK}`);
    }
    await sleep(50);
  }
}

async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => done(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
