// What the engine in Rust calls: see `Hooks` in js-engine/src/engine.rs.

import { loadBuiltin } from "../builtins.js";
import { setEnvironment } from "../env.js";
import { bind } from "./bind.js";
import { evaluateCommonJs } from "./commonjs.js";
import { describe, expectFile } from "./errors.js";
import { rehearse } from "./rehearsal.js";
import { setTimeoutOfEvents } from "./lambda.js";
import { clearTimers, runTimer } from "./timers.js";
import { warnings } from "./warnings.js";

const { toWellFormed } = String.prototype;
const { apply } = Reflect;

export const hooks = {
  builtin: loadBuiltin,
  bind,
  environment(values, request) {
    setEnvironment(values);
    setTimeoutOfEvents(request.timeout_ms);
    expectFile(request);
  },
  commonjs: evaluateCommonJs,
  describe,
  rehearse,
  runTimer,
  clearTimers,
  warnings,
  wellFormed: (text) => apply(toWellFormed, text, []),
};
