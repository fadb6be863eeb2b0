// A DynamoDB for a test: dynalite on a free port, with the table of the functions. Prints the port, and then the rows of
// the table for each line of stdin.
const [dynaliteModules, clientModules] = process.argv.slice(2);
const { createRequire } = require("node:module");
const dynalite = createRequire(`${dynaliteModules}/`)("dynalite");
const client = createRequire(`${clientModules}/`)("@aws-sdk/client-dynamodb");

const server = dynalite({ createTableMs: 0 });
server.listen(0, "127.0.0.1", async () => {
  const { port } = server.address();
  const dynamo = new client.DynamoDBClient({
    endpoint: `http://127.0.0.1:${port}`,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  });
  const TableName = "connections";
  await dynamo.send(
    new client.CreateTableCommand({
      TableName,
      KeySchema: [{ AttributeName: "connectionId", KeyType: "HASH" }],
      AttributeDefinitions: [{ AttributeName: "connectionId", AttributeType: "S" }],
      BillingMode: "PAY_PER_REQUEST",
    }),
  );
  await client.waitUntilTableExists({ client: dynamo, maxWaitTime: 20, minDelay: 1, maxDelay: 1 }, { TableName });
  console.log(port);
  for await (const _line of require("node:readline").createInterface(process.stdin)) {
    const { Items } = await dynamo.send(new client.ScanCommand({ TableName }));
    console.log(JSON.stringify(Items.map((item) => [item.connectionId.S, item.userId.S]).sort()));
  }
  process.exit();
});
