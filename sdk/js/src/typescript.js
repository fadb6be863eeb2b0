// Lets versions of Node.js that do not remove types themselves import files in TypeScript.

import module from "node:module";

if (!process.features.typescript) module.register("./typescript/hooks.js", import.meta.url);
