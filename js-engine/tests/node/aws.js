import * as sdk from "@aws-sdk/client-apigatewaymanagementapi";
import AWS, { ApiGatewayManagementApi as V2 } from "aws-sdk";
import DeepV2 from "aws-sdk/clients/apigatewaymanagementapi";

const { ApiGatewayManagementApi, ApiGatewayManagementApiClient, GoneException } = sdk;
const { DeleteConnectionCommand, GetConnectionCommand, PostToConnectionCommand } = sdk;

const client = new ApiGatewayManagementApiClient({ endpoint: "https://abc.execute-api.eu-west-1.amazonaws.com/prod", region: "eu-west-1" });
const absent = { ConnectionId: "absent=", Data: "late" };

test("the v3 client posts to the host's connections, as text also from bytes", async (event) => {
  const { connectionId } = event.requestContext;
  const posted = await client.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data: "text" }));
  assert.equal(posted.$metadata.httpStatusCode, 200);
  await client.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data: Buffer.from("from bytes \u20ac") }));
  await new ApiGatewayManagementApi({}).postToConnection({ ConnectionId: connectionId, Data: new TextEncoder().encode("aggregated") });
  const error = await assert.rejects(
    client.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data: new Uint8Array([255]) })),
    "BadRequestException",
    "not UTF-8",
  );
  assert.equal(error.$metadata.httpStatusCode, 400);
});

test("the v3 client describes a connection", async (event) => {
  const { connectionId, identity } = event.requestContext;
  const found = await client.send(new GetConnectionCommand({ ConnectionId: connectionId }));
  assert.ok(found.ConnectedAt instanceof Date && found.LastActiveAt >= found.ConnectedAt);
  assert.equal(found.Identity.SourceIp, identity.sourceIp);
});

test("a connection that is gone is caught in each of the usual ways", async () => {
  for (const Command of [PostToConnectionCommand, GetConnectionCommand, DeleteConnectionCommand]) {
    const error = await assert.rejects(client.send(new Command(absent)), "GoneException");
    assert.ok(error instanceof GoneException && error instanceof Error);
    assert.ok(error instanceof sdk.ApiGatewayManagementApiServiceException);
    assert.ok(!(error instanceof sdk.LimitExceededException));
    assert.deepEqual(
      [error.$metadata.httpStatusCode, error.statusCode, error.$fault, error.constructor.name, "code" in error],
      [410, 410, "client", "GoneException", false],
    );
    assert.equal(String(error).startsWith("GoneException: "), true);
    assert.equal(JSON.parse(JSON.stringify(error)).name, "GoneException");
  }
  const caught = await new Promise((resolve) => client.send(new PostToConnectionCommand(absent), (error) => resolve(error)));
  assert.equal(caught.name, "GoneException");
});

test("the v3 client refuses input as the SDK does", async () => {
  await assert.rejects(client.send(new PostToConnectionCommand({ Data: "x" })), "Error", "No value provided for input HTTP label: ConnectionId.");
  await assert.rejects(client.send(new PostToConnectionCommand({ ConnectionId: "a", Data: { b: 1 } })), "TypeError");
  await assert.rejects(client.send({}), "TypeError", "no command");
  assert.equal(await client.config.region(), "eu-west-1");
  client.middlewareStack.add(() => {}, {});
  client.destroy();
});

test("v2's ApiGatewayManagementApi has promises, callbacks, statusCode and code", async (event) => {
  const { connectionId } = event.requestContext;
  AWS.config.update({ region: "eu-west-1" });
  for (const Api of [AWS.ApiGatewayManagementApi, V2, DeepV2]) {
    const api = new Api({ apiVersion: "2018-11-29", endpoint: "abc.execute-api/prod" });
    assert.deepEqual(await api.postToConnection({ ConnectionId: connectionId, Data: "v2" }).promise(), {});
    const error = await assert.rejects(api.postToConnection(absent).promise(), "GoneException");
    assert.deepEqual([error.statusCode, error.code, error.retryable], [410, "GoneException", false]);
    const called = await new Promise((resolve) => api.getConnection({ ConnectionId: connectionId }, (...args) => resolve(args)));
    assert.equal(called[0], null);
    assert.ok(called[1].ConnectedAt instanceof Date);
    const failed = await new Promise((resolve) => api.deleteConnection(absent, (...args) => resolve(args)));
    assert.equal(failed[0].statusCode, 410);
    const sent = await new Promise((resolve) => api.postToConnection(absent).on("complete", resolve).send());
    assert.equal(sent.error.code, "GoneException");
    await assert.rejects(api.postToConnection({ Data: "x" }).promise(), "MissingRequiredParameter", "ConnectionId");
  }
});

test("other services of v2 are refused by name", () => {
  assert.throws(() => new AWS.S3(), "Error", "AWS.S3 of aws-sdk (v2)", "@aws-sdk", 'type = "lambda"');
  assert.throws(() => new AWS.DynamoDB.DocumentClient(), "Error", "AWS.DynamoDB.DocumentClient");
});
