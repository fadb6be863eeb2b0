"""A WebSocket handler written for AWS Lambda. It has no code for jackfield."""

import json

import boto3


def handler(event, context):
    route = event["requestContext"]["routeKey"]
    return {"$connect": connect, "$disconnect": disconnect, "echo": echo, "post": post, "fail": fail}[route](event, context)


def connect(event, context):
    if event.get("queryStringParameters", {}).get("token") != "let-me-in":
        return {"statusCode": 401}
    return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "chat"}}


def disconnect(event, context):
    print(json.dumps({"left": event["requestContext"]["connectionId"]}))
    return {"statusCode": 200}


def echo(event, context):
    message = json.loads(event["body"])
    return {"statusCode": 200, "body": json.dumps({"text": message["text"], "request": context.aws_request_id != ""})}


def post(event, context):
    request = event["requestContext"]
    client = boto3.client("apigatewaymanagementapi", endpoint_url=f"http://{request['domainName']}/{request['stage']}")
    client.post_to_connection(ConnectionId=request["connectionId"], Data=b"posted")
    return {"statusCode": 200}


def fail(event, context):
    if "nothing" in event["body"]:
        return None
    raise ValueError("there is no such room")
