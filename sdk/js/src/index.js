// The module "jackfield" for Node.js: the source of the engine, above a test double of the host.

import "./install.js";

export * from "./engine/jackfield/module.js";
