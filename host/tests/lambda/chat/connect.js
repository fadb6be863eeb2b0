// $connect: stores the connection with its user.
const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { DynamoDBDocumentClient, PutCommand } = require("@aws-sdk/lib-dynamodb");

const dynamo = DynamoDBDocumentClient.from(new DynamoDBClient({}));

exports.handler = async (event) => {
  const connectionId = event.requestContext.connectionId;
  const userId = event.queryStringParameters.userId;
  await dynamo.send(new PutCommand({ TableName: process.env.TABLE_NAME, Item: { connectionId, userId } }));
  return { statusCode: 200, body: "Connected." };
};
