// The web platform: everything here becomes a global, once, in the base image. QuickJS itself has DOMException, atob, btoa,
// queueMicrotask and Array.fromAsync; timers are in ../jackfield, crypto and Buffer in ../node.

import { AbortController, AbortSignal } from "./abort.js";
import { Blob, File } from "./blob.js";
import { TextDecoder, TextEncoder } from "./encoding.js";
import { CustomEvent, ErrorEvent, Event, EventTarget, MessageEvent } from "./event.js";
import { fetch } from "./fetch.js";
import { FormData } from "./form-data.js";
import { Headers } from "./headers.js";
import { Intl, addLocaleMethods } from "./intl/index.js";
import { MessageChannel, MessagePort } from "./message-channel.js";
import { Performance, PerformanceEntry, performance } from "./performance.js";
import { CompressionStream, DecompressionStream, WebAssembly } from "./refused.js";
import { Request } from "./request.js";
import { Response } from "./response.js";
import * as streams from "./streams.js";
import { structuredClone } from "./structured-clone.js";
import { URL, URLSearchParams } from "./url.js";

const globals = {
  AbortController, AbortSignal, Blob, CompressionStream, CustomEvent, DecompressionStream, ErrorEvent, Event, EventTarget,
  File, FormData, Headers, Intl, MessageChannel, MessageEvent, MessagePort, Performance, PerformanceEntry, Request,
  Response, TextDecoder, TextEncoder, URL, URLSearchParams, WebAssembly, fetch, performance, structuredClone, ...streams,
  reportError,
  self: globalThis,
};
for (const [name, value] of Object.entries(globals)) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}
addLocaleMethods();

/** Ends the event with an error, as an error that nothing catches does. */
function reportError(error) {
  Promise.reject(error);
}
