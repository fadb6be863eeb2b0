// The tools: the command of a node, the files that it needs, and what `load` must know to be its client.

import { join } from "node:path";

const HERE = import.meta.dirname;

const socketIo = (adapter) => ({
  name: `socket.io-${adapter}`,
  files: () => ({}),
  command: ({ port, redis }) => [process.execPath, join(HERE, "socket-io.mjs"), String(port), redis, adapter],
  load: ["--dialect", "socket-io", "--path", "/socket.io/?EIO=4&transport=websocket"],
});

const jackfield = (name, keys) => ({
  name,
  files: ({ port, redis }, options) => ({
    "jackfield.toml": `
[api]
id = "adapters"
stage = "dev"

[server]
listen = "127.0.0.1:${port}"

[backend]
url = "${redis}"

[integrations.relay]
component = "${options.relay}"
grants = ["connections", "connection-store"]
${keys}

[routes]
"$default" = { integration = "relay", route_response = true }
`,
  }),
  command: (_, options) => [options.jackfield, "serve", "jackfield.toml"],
  load: ["--dialect", "actions", "--path", "/dev"],
});

export const tools = [
  jackfield("jackfield", ""),
  jackfield("jackfield-reuse", "reuse = 1000"),
  socketIo("pubsub"),
  socketIo("sharded"),
  socketIo("streams"),
  {
    name: "centrifugo",
    files: ({ port, redis }) => ({
      // "insecure" lets each client subscribe and publish without a token.
      "config.json": JSON.stringify({
        http_server: { address: "127.0.0.1", port: String(port) },
        client: { insecure: true },
        engine: { type: "redis", redis: { address: redis } },
        log: { level: "error" },
      }),
    }),
    command: (_, options) => [options.centrifugo, "-c", "config.json"],
    load: ["--dialect", "centrifugo", "--path", "/connection/websocket"],
  },
];
