// Bundles src/main.js into the one script that the engine evaluates when its base image is made.
import { build } from "esbuild";

await build({
  entryPoints: ["src/main.js"],
  outfile: "dist/main.js",
  bundle: true,
  format: "iife",
  target: "es2023",
  platform: "neutral",
  mainFields: ["module", "main"],
  conditions: ["worker", "browser", "import"],
  // QuickJS writes these names into stacks.
  keepNames: false,
  legalComments: "linked",
  logLevel: "warning",
  loader: { ".json": "json" },
  plugins: [],
});
