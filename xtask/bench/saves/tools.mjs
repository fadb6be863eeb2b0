// The tools that are compared. Each has a folder with a handler that answers every message with "answer-0".
//
// `command(port)` is what a user types, with the ports that it needs as arguments. `PORT` is also in the environment.

/** @typedef {{ name: string, title: string, mode: string, folder: string, file: string, package?: string, path?: string,
 *   ports: number, command: (ports: number[], options: object) => string[] }} Tool */

const jackfield = (verb, language, file, title) => ({
  name: `jackfield-${verb}-${language}`,
  title: "jackfield",
  mode: `\`jackfield ${verb}\`, ${title}`,
  folder: `jackfield-${language}`,
  file,
  path: "/dev",
  ports: 1,
  command: ([port], { jackfield, engines }) =>
    [jackfield, verb, "--listen", `127.0.0.1:${port}`, ...(engines ? ["--engines", engines] : [])],
});

const offline = ([websocket, http, lambda]) =>
  ["serverless", "offline", "--httpPort", http, "--websocketPort", websocket, "--lambdaPort", lambda];

const serverless = (name, folder, file, mode, command) => ({
  name,
  title: "serverless-offline",
  mode,
  folder,
  file,
  package: "serverless-offline",
  ports: 3,
  command,
});

/** @type {Tool[]} */
export const tools = [
  jackfield("dev", "javascript", "handler.js", "JavaScript"),
  jackfield("dev", "typescript", "handler.ts", "TypeScript"),
  jackfield("dev", "python", "handler.py", "Python"),
  jackfield("serve", "javascript", "handler.js", "JavaScript"),
  {
    name: "bun-hot",
    title: "Bun",
    mode: "`bun --hot`",
    folder: "bun",
    file: "server.js",
    package: "bun",
    ports: 1,
    command: () => ["bun", "--hot", "server.js"],
  },
  {
    name: "bun-watch",
    title: "Bun",
    mode: "`bun --watch`",
    folder: "bun",
    file: "server.js",
    package: "bun",
    ports: 1,
    command: () => ["bun", "--watch", "server.js"],
  },
  {
    name: "deno-hmr",
    title: "Deno",
    mode: "`deno run --watch-hmr`, the text in a function",
    folder: "deno",
    file: "server.js",
    package: "deno",
    ports: 1,
    command: () => ["deno", "run", "--watch-hmr", "-NE", "server.js"],
  },
  {
    name: "deno-hmr-constant",
    title: "Deno",
    mode: "`deno run --watch-hmr`, the text in a constant of the module",
    folder: "deno-constant",
    file: "server.js",
    package: "deno",
    ports: 1,
    command: () => ["deno", "run", "--watch-hmr", "-NE", "server.js"],
  },
  {
    name: "deno-watch",
    title: "Deno",
    mode: "`deno run --watch`",
    folder: "deno",
    file: "server.js",
    package: "deno",
    ports: 1,
    command: () => ["deno", "run", "--watch", "-NE", "server.js"],
  },
  {
    name: "wrangler",
    title: "wrangler",
    mode: "`wrangler dev`, a Durable Object",
    folder: "wrangler",
    file: "worker.js",
    package: "wrangler",
    ports: 2,
    command: ([port, inspector]) => ["wrangler", "dev", "--port", port, "--inspector-port", inspector],
  },
  {
    name: "wrangler-worker",
    title: "wrangler",
    mode: "`wrangler dev`, a Worker",
    folder: "wrangler-worker",
    file: "worker.js",
    package: "wrangler",
    ports: 2,
    command: ([port, inspector]) => ["wrangler", "dev", "--port", port, "--inspector-port", inspector],
  },
  serverless("serverless-reload", "serverless", "handler.js", "`--reloadHandler`, Node.js", (ports) =>
    [...offline(ports), "--reloadHandler"]),
  serverless("serverless-nodemon", "serverless", "handler.js", "restarted by nodemon, Node.js", (ports) =>
    ["nodemon", "--exec", offline(ports).join(" ")]),
  serverless("serverless-python-reload", "serverless-python", "handler.py", "`--reloadHandler`, Python", (ports) =>
    [...offline(ports), "--reloadHandler"]),
];
