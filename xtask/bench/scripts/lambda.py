"""A Lambda function as people write it: it parses the message, logs a line, and posts to the sender."""

import json

import boto3


def handler(event, context):
    request = event["requestContext"]
    message = json.loads(event["body"])
    print(f"request {request['requestId']} of {request['connectionId']}: {message['action']}")
    endpoint = f"https://{request['domainName']}/{request['stage']}"
    client = boto3.client("apigatewaymanagementapi", endpoint_url=endpoint)
    client.post_to_connection(ConnectionId=request["connectionId"], Data=message["content"].encode())
    return {"statusCode": 200}
