// An esbuild plugin: where npm's packages of the base image import one of node's modules, they get the one in src/node/, so
// that there is one Buffer, one EventEmitter and one process.
import path from "node:path";
import { fileURLToPath } from "node:url";

const modules = path.join(path.dirname(fileURLToPath(import.meta.url)), "src", "node");

const ALIASES = {
  "abort-controller": "shims/abort-controller.cjs",
  buffer: "shims/buffer.cjs",
  events: "shims/events.cjs",
  inherits: "shims/inherits.cjs",
  process: "shims/process.cjs",
  qs: "shims/qs.cjs",
  "safe-buffer": "shims/buffer.cjs",
  string_decoder: "shims/string-decoder.cjs",
  util: "shims/util.cjs",
};

export const aliases = {
  name: "aliases",
  setup(build) {
    build.onResolve({ filter: /^[a-z_-]+\/?$/ }, ({ path: name, importer }) => {
      const file = ALIASES[name.replace(/\/$/, "")];
      // What src/ imports is the package itself.
      if (file === undefined || importer.startsWith(modules)) return undefined;
      return { path: path.join(modules, file) };
    });
  },
};
