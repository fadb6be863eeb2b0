// Node.js before 22.18 needs jackfield, on PATH or as the variable JACKFIELD, to read TypeScript.
import "jackfield/typescript";

import { drive } from "../conformance-js/drive.js";

const { default: handler } = await import("./handler.ts");

await drive(handler);
