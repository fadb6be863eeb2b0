// The module "jackfield", and the globals that need no other part of the bundle.

import "./console.js";
import "./random.js";
import "./timers.js";
import { builtin } from "../builtins.js";
import { config } from "./config.js";
import * as connections from "./connections.js";
import * as kv from "./kv.js";
import { log } from "./log.js";
import { authorizer, plugin, routes } from "./plugin.js";
import * as store from "./store.js";

builtin("jackfield", {
  plugin,
  routes,
  authorizer,
  connections: connections.connections,
  store: store.store,
  kv: kv.kv,
  log,
  config,
  ...connections.errors,
  ...store.errors,
  ...kv.errors,
});
