// The entry of the bundle that the engine evaluates once for each build of it.

import { native } from "./native.js";
import { hooks } from "./jackfield/hooks.js";
import "./web/index.js";
import "./node/index.js";
import "./aws/index.js";
import "./jackfield/index.js";

native.start(hooks);
