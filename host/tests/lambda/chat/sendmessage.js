// sendmessage: finds the connections of a user, and posts to them. Connections that are gone are removed.
const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");
const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { DynamoDBDocumentClient, DeleteCommand, ScanCommand } = require("@aws-sdk/lib-dynamodb");

const dynamo = DynamoDBDocumentClient.from(new DynamoDBClient({}));
const TableName = process.env.TABLE_NAME;

exports.handler = async (event) => {
  const { domainName, stage } = event.requestContext;
  const management = new ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });
  const { to, content } = JSON.parse(event.body);
  const { Items } = await dynamo.send(
    new ScanCommand({
      TableName,
      FilterExpression: "userId = :to",
      ExpressionAttributeValues: { ":to": to },
      ProjectionExpression: "connectionId",
    }),
  );
  const results = await Promise.all(
    Items.map(async ({ connectionId }) => {
      try {
        await management.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data: content }));
        return "posted";
      } catch (error) {
        if (error.name !== "GoneException") throw error;
        await dynamo.send(new DeleteCommand({ TableName, Key: { connectionId } }));
        return "gone";
      }
    }),
  );
  return { statusCode: 200, body: results.join(" ") };
};
