// The globals that npm's packages of the base image look for when they are evaluated; imported before them.
import { Buffer } from "./buffer.js";
import { process } from "./process.js";

for (const [name, value] of Object.entries({ global: globalThis, process, Buffer })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
