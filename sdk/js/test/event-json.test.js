// The events of Lambda functions, compared with those of the host in host/tests/golden.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { authorizerEvent, handlerEvent } from "../src/testing/event-json.js";

/** Without the white space that the file has for its readers. */
function golden(name) {
  return JSON.stringify(JSON.parse(readFileSync(new URL(`../../../host/tests/golden/${name}.json`, import.meta.url), "utf8")));
}

const connection = (fields) => ({
  apiId: "abcdef123", stage: "default", domainName: "abcdef123.execute-api.us-east-1.amazonaws.com",
  sourceIp: "192.0.2.1", userAgent: undefined, authorizer: [], stageVariables: [], ...fields,
});
const capture = (fields) => connection({
  apiId: "dl7ptocha9", stage: "prod", domainName: "dl7ptocha9.execute-api.ap-northeast-1.amazonaws.com", sourceIp: "49.105.91.154", ...fields,
});
const request = (connectionId, requestId, routeKey, connectedAt, requestTime) => ({ connectionId, requestId, routeKey, connectedAt, requestTime });

const AUTHORIZER = [["principalId", "user-1"], ["admin", "true"], ["quota", "42"]];
const BROWSER = "Mozilla/5.0 (X11; Linux x86_64)";

test("a connect event is that of the host", () => {
  const from = connection({
    apiId: "abcd123", stage: "prod", domainName: "127.0.0.1:3001", sourceIp: "127.0.0.1", userAgent: BROWSER,
    authorizer: AUTHORIZER, stageVariables: [["table", "connections-prod"]],
  });
  const headers = [
    ["Host", "127.0.0.1:3001"], ["Connection", "keep-alive, Upgrade"], ["Upgrade", "websocket"], ["cookie", "a=1"],
    ["Origin", "http://localhost:8080"], ["User-Agent", BROWSER], ["Accept-Encoding", "gzip, deflate"], ["Cookie", "b=2"],
    ["Sec-WebSocket-Protocol", "chat, superchat"],
  ];
  const query = [["token", "a b"], ["room", "1"], ["room", "2"]];
  const first = request("S2IZmeRWIAMCFcA=", "S2IZmG8VIAMFcvQ=", "$connect", 1_707_502_303_419, 1_707_502_303_420);
  // The host derives the end of the trace id from the request id in a way of its own.
  const withoutId = (json) => json.replaceAll(/Root=1-65c66adf-[^"]{24}/g, "Root=1-65c66adf-");
  const expected = golden("connect_of_a_browser");
  assert.notEqual(withoutId(expected), expected);
  assert.equal(withoutId(handlerEvent(first, from, { kind: "connect", headers, query })), withoutId(expected));
});

test("a message event is that of the host", () => {
  const message = (body) => ({ kind: "message", body, messageId: "R1knPc2ntjMCFIA=" });
  const later = (routeKey) => request("R1kmxc2VNjMCFIA=", "R1knPH17NjMFftw=", routeKey, 1_705_751_697_419, 1_705_751_700_453);
  const text = message('{\r\n\t"a": 1\r\n}');
  assert.equal(handlerEvent(later("$default"), capture({ userAgent: BROWSER }), text), golden("message"));
  const from = capture({ authorizer: AUTHORIZER, stageVariables: [["table", "connections-prod"], ["mode", ""]] });
  const binary = message(Uint8Array.of(0, 1, 254, 255));
  assert.equal(handlerEvent(later("sendmessage"), from, binary), golden("message_binary_after_an_authorizer"));
});

test("a disconnect event is that of the host", () => {
  const last = request("R1kmxc2VNjMCFIA=", "R1koeHsUtjMFbRw=", "$disconnect", 1_705_751_697_419, 1_705_751_708_326);
  const event = { kind: "disconnect", statusCode: 1005, reason: "Client-side close frame status not set" };
  const from = capture({ authorizer: AUTHORIZER, stageVariables: [["table", "connections-prod"]] });
  assert.equal(handlerEvent(last, from, event), golden("disconnect_after_an_authorizer"));
});

test("the event of an authorizer is that of the host", () => {
  const host = "abcdef123.execute-api.us-east-1.amazonaws.com";
  const headers = [
    ["Host", host], ["Upgrade", "websocket"], ["Connection", "Upgrade"], ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
    ["Sec-WebSocket-Version", "13"], ["Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"],
    ["x-forwarded-proto", "https"], ["x-amzn-trace-id", "Root=1-63c9b276-0123456789abcdef01234567"], ["HeaderAuth1", "headerValue1"],
  ];
  const first = request("eyo8acKnIAMCFdw=", "eyo8aHZUIAMFo3A=", "$connect", 1_674_162_806_344, 1_674_162_806_345);
  const from = connection({ stageVariables: [["table", "connections-prod"]] });
  assert.equal(authorizerEvent(first, from, { kind: "connect", headers, query: [] }), golden("authorizer_without_a_query"));
});
