// Drives the test double of the SDK: reads one JSON object a line, and writes one a line, as in sdk/conformance/README.md.

import { createInterface } from "node:readline";

import { Host } from "jackfield/testing";
import { REPLY_PREFIX, fromHex, parse, toHex } from "./values.js";

let handler;
let host;
let peers;

const body = (value) => (typeof value === "string" ? { text: value } : { hex: toHex(value) });

async function answer(request) {
  if (request.new !== undefined) {
    const { routes, buckets = {}, config = {}, "stage-variables": stageVariables = {} } = request.new;
    [host, peers] = [new Host({ routes }), new Map()];
    host.addBucket("conformance");
    for (const [name, limits] of Object.entries(buckets)) host.addBucket(name, limits);
    for (const [key, value] of Object.entries(config)) host.setConfig(key, value);
    for (const [name, value] of Object.entries(stageVariables)) host.setStageVariable(name, value);
    return {};
  }
  if (request.connect !== undefined) {
    try {
      peers.set(request.connect, await host.connect(handler, request.query, { headers: request.headers ?? [] }));
      return {};
    } catch (error) {
      if (error.statusCode === undefined) throw error;
      return { rejected: error.statusCode };
    }
  }
  if (request.send !== undefined) return send(peers.get(request.send), request.text ?? fromHex(request.hex));
  if (request["take-posts"] !== undefined) return { posts: host.takePostsTo(peers.get(request["take-posts"])).map(body) };
  if (request.close !== undefined) {
    await peers.get(request.close).close(request.code, request.reason);
    return {};
  }
  if (request.closed !== undefined) {
    const { code, reason } = peers.get(request.closed).closeFrame;
    return { closed: [code, reason] };
  }
  host.advance(request.pass);
  return {};
}

async function send(peer, message) {
  let response;
  try {
    response = await peer.send(message);
  } catch {
    return peer.isOpen ? { failed: true } : { closed: [peer.closeFrame.code, peer.closeFrame.reason] };
  }
  if (!String(response.body).startsWith(REPLY_PREFIX)) throw new Error(`the handler always replies, but: ${response.body}`);
  return { text: response.body };
}

/** Drives this handler until the input ends. */
export async function drive(driven) {
  handler = driven;
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(parse(line)))}\n`);
  }
}
