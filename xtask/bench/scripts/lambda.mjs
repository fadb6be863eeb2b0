// A Lambda function as people write it: it parses the message, logs a line, and posts to the sender.
import { ApiGatewayManagementApiClient, PostToConnectionCommand } from "@aws-sdk/client-apigatewaymanagementapi";

export const handler = async (event) => {
  const { domainName, stage, connectionId, requestId } = event.requestContext;
  const { action, content } = JSON.parse(event.body);
  console.log("request %s of %s: %s", requestId, connectionId, action);
  const client = new ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });
  await client.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data: content }));
  return { statusCode: 200 };
};
