// Node.js before 22.18 needs jackfield, on PATH, to read TypeScript.
import "jackfield/typescript";

import { testEcho } from "../echo-js/behaviour.js";

const { default: echo } = await import("./echo.ts");

testEcho(echo);
