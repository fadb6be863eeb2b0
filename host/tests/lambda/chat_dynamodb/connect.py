"""$connect: stores the connection with its user."""

import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


def handler(event, context):
    user = event["queryStringParameters"]["userId"]
    table.put_item(Item={"connectionId": event["requestContext"]["connectionId"], "userId": user})
    return {"statusCode": 200, "body": "Connected."}
