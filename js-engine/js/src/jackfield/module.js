// What the module "jackfield" exports. The package `jackfield` of npm exports the same file.

import { errors as connectionErrors } from "./connections.js";
import { errors as kvErrors } from "./kv.js";
import { errors as storeErrors } from "./store.js";

export { config } from "./config.js";
export { connections } from "./connections.js";
export { currentConnection } from "./current-connection.js";
export { kv } from "./kv.js";
export { log } from "./log.js";
export { authorizer, plugin, routes } from "./plugin.js";
export { store } from "./store.js";

export const { ConnectionError, GoneError, PayloadTooLargeError, LimitExceededError, ForbiddenError } = connectionErrors;
export const { StoreError, NoSuchConnectionError, TooLargeError, AccessDeniedError, UnavailableError } = storeErrors;
export const { KvError } = kvErrors;
