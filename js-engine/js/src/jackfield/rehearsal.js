// An event that waits, as most do, without the host: by the pages of the memory that it writes to, the host knows which
// ones an event writes to. The instance is dropped afterwards, so its native functions may be replaced.

import { native } from "../native.js";
import { clientV3 } from "../aws/client-v3.js";
import { bind } from "./bind.js";
import { connections } from "./connections.js";
import { store } from "./store.js";

const ID = "AAAAAAAAAAAAAAA=";
const BODY = JSON.stringify({ action: "sendmessage", to: ID, content: "hello" });
const EVENT = JSON.stringify({
  requestContext: {
    routeKey: "sendmessage",
    messageId: ID,
    eventType: "MESSAGE",
    extendedRequestId: ID,
    requestTime: "01/Jan/2026:00:00:00 +0000",
    messageDirection: "IN",
    stage: "dev",
    connectedAt: 1767225600000,
    requestTimeEpoch: 1767225600000,
    identity: { sourceIp: "127.0.0.1" },
    requestId: ID,
    domainName: "localhost",
    connectionId: ID,
    apiId: "api",
  },
  body: BODY,
  isBase64Encoded: false,
});

async function handler(event) {
  const { domainName, stage, connectionId, requestId } = event.requestContext;
  const { action, to, content } = JSON.parse(event.body);
  console.log("request %s of %s: %s", requestId, connectionId, action);
  const client = new clientV3.ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });
  await client.send(new clientV3.PostToConnectionCommand({ ConnectionId: to, Data: JSON.stringify({ content }) }));
  await store.put(connectionId, { user: to });
  const row = await store.get(connectionId);
  await connections.postToConnection(connectionId, row.get("user"));
  return { statusCode: 200, body: JSON.stringify({ connectionId, at: Date.now() }) };
}

export async function rehearse() {
  native.event.json = () => EVENT;
  native.log.write = () => {};
  native.connections.post = () => 0;
  native.store.put = () => {};
  native.store.get = () => [ID, 0, [["user", ID]]];
  const [dispatch, respond] = bind({ world: "route-handler" }, { handler });
  respond(await dispatch(1, ID, "sendmessage", ID, 0, 0, BODY, ID));
}
