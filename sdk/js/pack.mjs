// Packs the SDK as npm takes it: `node pack.mjs [FOLDER]` writes jackfield-VERSION.tgz into the folder.
//
// The source of the engine is linked into src/engine, and npm does not follow links. So a copy is packed.

import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const destination = resolve(process.argv[2] ?? ".");
const copy = mkdtempSync(join(tmpdir(), "jackfield-js-"));
try {
  for (const name of ["package.json", "README.md", "src", "types"]) {
    cpSync(join(import.meta.dirname, name), join(copy, name), { recursive: true, dereference: true });
  }
  execFileSync("npm", ["pack", "--silent", "--pack-destination", destination], { cwd: copy, stdio: "inherit" });
} finally {
  rmSync(copy, { recursive: true });
}
