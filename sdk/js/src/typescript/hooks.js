// Loads .ts and .mts files as jackfield loads them: without their types.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The program that removes the types. */
const JACKFIELD = process.env.JACKFIELD ?? "jackfield";

const run = promisify(execFile);

export async function load(url, context, next) {
  const { protocol, pathname } = new URL(url);
  if (protocol !== "file:" || !/\.m?ts$/.test(pathname)) return next(url, context);
  try {
    const { stdout } = await run(JACKFIELD, ["print-script", fileURLToPath(url)], { maxBuffer: 64 * 1024 * 1024 });
    return { format: "module", source: stdout, shortCircuit: true };
  } catch (error) {
    if (error.code === "ENOENT") {
      throw new Error(`Node.js ${process.versions.node} cannot read TypeScript, and there is no ${JSON.stringify(JACKFIELD)} that \
removes the types: add the folder of jackfield to PATH, set JACKFIELD to its path, or use Node.js 22.18 or later`);
    }
    throw new Error(error.stderr?.trim().replace(/^error: /, "") || error.message);
  }
}
