// Node's globals and built-in modules. Everything is made once, when the engine is built.
import "./globals.js";
import { builtin } from "../builtins.js";
import { assert, strict } from "./assert.js";
import { asyncHooks } from "./async-hooks.js";
import { buffer } from "./buffer.js";
import { consoleModule } from "./console.js";
import { crypto } from "./crypto/index.js";
import { Crypto, CryptoKey, SubtleCrypto, webcrypto } from "./crypto/webcrypto.js";
import { diagnosticsChannel } from "./diagnostics-channel.js";
import events from "./events.js";
import { os } from "./os.js";
import { path } from "./path.js";
import { process } from "./process.js";
import { punycode } from "./punycode.js";
import { querystring } from "./querystring.js";
import { consumers, stream, web } from "./stream.js";
import { stringDecoder } from "./string-decoder.js";
import { markPromisified, timers, timersPromises } from "./timers.js";
import { url } from "./url.js";
import { util } from "./util.js";

for (const [name, value] of Object.entries({ crypto: webcrypto, Crypto, CryptoKey, SubtleCrypto })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
markPromisified();

const modules = {
  assert,
  "assert/strict": strict,
  async_hooks: asyncHooks,
  buffer,
  console: consoleModule(),
  crypto,
  diagnostics_channel: diagnosticsChannel,
  events,
  os,
  path,
  "path/posix": path,
  "path/win32": path,
  perf_hooks: {
    get performance() {
      return globalThis.performance;
    },
  },
  process,
  punycode,
  querystring,
  stream,
  "stream/consumers": consumers,
  "stream/promises": stream.promises,
  "stream/web": web,
  string_decoder: stringDecoder,
  timers,
  "timers/promises": timersPromises,
  url,
  util,
  "util/types": util.types,
};
for (const [name, exports] of Object.entries(modules)) {
  // Found by the bare name too.
  builtin(`node:${name}`, exports);
}
