// Bundles src/main.js into the one module that the engine evaluates when its base image is made.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";
import { aliases } from "./aliases.mjs";

const OUTPUT = "dist/main.js";

const { outputFiles } = await build({
  entryPoints: ["src/main.js"],
  outfile: OUTPUT,
  bundle: true,
  write: false,
  format: "esm",
  // White space would stay in the memory of every handler. Names stay as they are, because programs see those of classes.
  minifyWhitespace: true,
  target: "es2023",
  platform: "neutral",
  mainFields: ["module", "main"],
  conditions: ["worker", "browser", "import"],
  legalComments: "eof",
  logLevel: "warning",
  loader: { ".json": "json" },
  plugins: [aliases],
});

// cargo builds the engine again if this file is written.
const text = outputFiles[0].text;
let before = "";
try {
  before = readFileSync(OUTPUT, "utf8");
} catch {
  mkdirSync("dist", { recursive: true });
}
if (text !== before) writeFileSync(OUTPUT, text);
