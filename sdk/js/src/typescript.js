// Lets versions of Node.js that do not remove types themselves import files in TypeScript.

import module from "node:module";

if (!process.features.typescript) {
  // For the lines in stacks.
  process.setSourceMapsEnabled(true);
  module.register("./typescript/hooks.js", import.meta.url);
}
