// `log` of "jackfield": the levels of wasi:logging.

import { native } from "../native.js";
import { format } from "./inspect.js";

const LEVELS = ["trace", "debug", "info", "warn", "error", "critical"];

export const log = {};
LEVELS.forEach((name, level) => {
  log[name] = (...values) => native.log.write(level, format(...values));
});
