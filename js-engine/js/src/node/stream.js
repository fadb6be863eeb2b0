// The modules `node:stream`, `node:stream/promises`, `node:stream/web` and `node:stream/consumers`: npm's readable-stream
// is node's own code.
import stream from "readable-stream/lib/stream.js";
import { Buffer } from "./buffer.js";

/** The web platform's classes, looked up when they are used. */
const web = {};
for (const name of [
  "ReadableStream",
  "ReadableStreamDefaultReader",
  "ReadableStreamBYOBReader",
  "ReadableStreamDefaultController",
  "ReadableByteStreamController",
  "WritableStream",
  "WritableStreamDefaultWriter",
  "WritableStreamDefaultController",
  "TransformStream",
  "TransformStreamDefaultController",
  "ByteLengthQueuingStrategy",
  "CountQueuingStrategy",
  "TextEncoderStream",
  "TextDecoderStream",
  "CompressionStream",
  "DecompressionStream",
]) {
  Object.defineProperty(web, name, { enumerable: true, get: () => globalThis[name] });
}

async function collect(source) {
  const chunks = [];
  for await (const chunk of source) chunks.push(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
  return Buffer.concat(chunks);
}

const text = async (source) => new TextDecoder().decode(await collect(source));

const consumers = {
  arrayBuffer: async (source) => {
    const bytes = await collect(source);
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  },
  blob: async (source) => new Blob([await collect(source)]),
  buffer: collect,
  json: async (source) => JSON.parse(await text(source)),
  text,
};

export { stream, web, consumers };
