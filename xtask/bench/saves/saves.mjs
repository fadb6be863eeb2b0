// Measures a save of a handler as a connected WebSocket client sees it, for each tool of tools.mjs. See README.md.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Client } from "./client.mjs";
import { tools } from "./tools.mjs";

const HERE = import.meta.dirname;
/** Copies of the handlers that are changed, and the log of each tool. */
const WORK = join(HERE, "work");

/** No run saves what another run saved, so that no cache of a tool has it. */
const RUN = Date.now().toString(36);

/** Between an answer and the next message, and between a connection that fails and the next attempt. */
const PAUSE_MS = 2;
/** After the first new answer, the client sends for so long before the next save, and at random up to half of it more. */
const SETTLE_MS = 200;
/** If the answers are still old after so long, the client connects again. */
const OLD_MS_MAX = 5_000;
/** If the new code has not answered after so long, the save counts as failed. */
const LIVE_MS_MAX = 15_000;
/** A tool has so long to start. */
const START_MS_MAX = 60_000;
/** A tool that has not stopped after so long is killed. */
const STOP_MS_MAX = 2_000;

const HELP = `usage: npm start -- [--saves N] [--jackfield PATH] [--engines FOLDER] [TOOL...]
tools: ${tools.map((tool) => tool.name).join(" ")}`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    saves: { type: "string", default: "20" },
    jackfield: { type: "string", default: "jackfield" },
    engines: { type: "string" },
    help: { type: "boolean" },
  },
});

const unknown = positionals.filter((name) => !tools.some((tool) => tool.name === name));
if (options.help || unknown.length > 0) {
  console.log(HELP);
  process.exit(options.help ? 0 : 2);
}
for (const name of ["jackfield", "engines"]) {
  if (options[name]?.includes("/")) {
    options[name] = resolve(options[name]);
  }
}

// A tool has a process group of its own, which ctrl-c does not reach.
let running = null;
process.once("exit", () => running && signal(running, "SIGKILL"));
process.once("SIGINT", () => process.exit(130)).once("SIGTERM", () => process.exit(143));

console.log("| tool | mode | save to live, p50 / max | the connection | requests that failed, p50 / max | "
  + "longest time without an answer, p50 / max | time to answer between saves, p50 | notes |");
console.log("|---|---|---|---|---|---|---|---|");
for (const tool of tools.filter(({ name }) => positionals.length === 0 || positionals.includes(name))) {
  const saves = await measure(tool, Number(options.saves));
  console.log(row(tool, saves));
}

/** Starts a tool with a copy of its handler, and saves the copy `count` times. */
async function measure(tool, count) {
  const folder = join(WORK, tool.name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(WORK, { recursive: true });
  cpSync(join(HERE, tool.folder), folder, { recursive: true });
  const file = join(folder, tool.file);
  const source = readFileSync(file, "utf8");
  const write = (answer) => writeFileSync(file, source.replace("answer-0", answer));

  const ports = await freePorts(tool.ports);
  const child = start(tool.command(ports, options), folder, ports[0]);
  const client = new Client(`ws://127.0.0.1:${ports[0]}${tool.path ?? "/"}`);
  try {
    await firstAnswer(client, child);
    await sleep(SETTLE_MS);
    const saves = [];
    for (let number = 1; number <= count; number += 1) {
      saves.push(await save(client, write, `answer-${RUN}-${number}`));
    }
    return saves;
  } finally {
    client.close();
    await stop(child);
  }
}

/** Saves once, and sends messages until the new code has answered and a while longer. */
async function save(client, write, answer) {
  const settle = SETTLE_MS * (1 + Math.random() / 2);
  const drops = client.drops;
  const result = { live: null, drops: 0, failed: 0, wait: 0, answers: [], reconnected: false, others: [] };
  const start = performance.now();
  let answered = start;
  write(answer);
  for (;;) {
    const asked = performance.now();
    const text = await client.ask();
    const now = performance.now();
    if (text === null) {
      result.failed += 1;
    } else {
      result.wait = Math.max(result.wait, now - answered);
      answered = now;
      if (text === answer && result.live === null) {
        result.live = now - start;
      } else if (text === answer) {
        result.answers.push(now - asked);
      } else if (result.live !== null || !text.startsWith("answer-")) {
        result.others.push(text);
      }
    }
    if (now - start > (result.live === null ? LIVE_MS_MAX : result.live + settle)) {
      return { ...result, drops: client.drops - drops };
    }
    if (result.live === null && !result.reconnected && now - start > OLD_MS_MAX) {
      result.reconnected = true;
      client.close();
    }
    await sleep(PAUSE_MS);
  }
}

async function firstAnswer(client, child) {
  const end = performance.now() + START_MS_MAX;
  while ((await client.ask()) !== "answer-0") {
    if (child.exitCode !== null || performance.now() > end) {
      throw new Error(`${child.spawnargs.join(" ")} does not serve: see ${child.log}`);
    }
    await sleep(50);
  }
}

/** Starts a command in a process group of its own, with the installed tools on its PATH. */
function start([program, ...args], folder, port) {
  const log = `${folder}.log`;
  const output = openSync(log, "w");
  const child = spawn(program, args.map(String), {
    cwd: folder,
    detached: true,
    stdio: ["ignore", output, output],
    env: {
      ...process.env,
      PATH: join(HERE, "node_modules", ".bin") + delimiter + process.env.PATH,
      PORT: String(port),
      DENO_NO_UPDATE_CHECK: "1",
      WRANGLER_SEND_METRICS: "false",
      CLOUDFLARE_CF_FETCH_ENABLED: "false",
    },
  });
  child.on("error", (error) => console.error(`${program}: ${error.message}`));
  child.log = log;
  running = child;
  return child;
}

/** Ends the process group of a tool. */
async function stop(child) {
  const end = performance.now() + STOP_MS_MAX;
  signal(child, "SIGTERM");
  while (signal(child, 0) && performance.now() < end) {
    await sleep(20);
  }
  signal(child, "SIGKILL");
  running = null;
}

/** Sends a signal to the process group of a tool. Returns whether it exists. */
function signal(child, name) {
  try {
    return process.kill(-child.pid, name);
  } catch {
    return false;
  }
}

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

function row(tool, saves) {
  const live = saves.map((each) => each.live).filter((ms) => ms !== null);
  const dropped = saves.filter((each) => each.drops > 0).length;
  const others = saves.flatMap((each) => each.others);
  const cells = [
    `${tool.title} ${version(tool)}`,
    tool.mode,
    spread(live, milliseconds),
    dropped === 0 ? "kept" : `dropped by ${dropped} of ${saves.length} saves`,
    spread(saves.map((each) => each.failed), String),
    spread(saves.map((each) => each.wait), milliseconds),
    milliseconds(median(saves.flatMap((each) => each.answers))),
    [
      note(saves.length - live.length, "saves not live"),
      note(saves.filter((each) => each.reconnected).length, "saves live only over a new connection"),
      note(saves.filter((each) => each.drops > 1).length, "saves with several drops"),
      note(others.length, `other answers, such as ${others[0]}`),
    ].filter(Boolean).join("; "),
  ];
  return `| ${cells.join(" | ")} |`;
}

function note(count, text) {
  return count === 0 ? "" : `${count} ${text}`;
}

/** The median of the values, and the largest. */
function spread(values, format) {
  return values.length === 0 ? "-" : `${format(median(values))} / ${format(Math.max(...values))}`;
}

function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)];
}

function milliseconds(ms) {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en")} ms`;
}

function version(tool) {
  if (tool.package === undefined) {
    return execFileSync(options.jackfield, ["--version"], { encoding: "utf8" }).trim().split(" ").at(-1);
  }
  return JSON.parse(readFileSync(join(HERE, "node_modules", tool.package, "package.json"), "utf8")).version;
}
