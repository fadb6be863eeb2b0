// The module "jackfield", and the globals that need no other part of the bundle.

import "./console.js";
import "./random.js";
import "./timers.js";
import { builtin } from "../builtins.js";
import * as module from "./module.js";

builtin("jackfield", { ...module });
