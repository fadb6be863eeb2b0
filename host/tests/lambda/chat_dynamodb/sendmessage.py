"""sendmessage: finds the connections of a user, and posts to them. Connections that are gone are removed."""

import json
import os

import boto3
from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


def handler(event, context):
    request = event["requestContext"]
    management = boto3.client(
        "apigatewaymanagementapi", endpoint_url=f"https://{request['domainName']}/{request['stage']}"
    )
    message = json.loads(event["body"])
    results = []
    for item in table.scan(FilterExpression=Attr("userId").eq(message["to"]))["Items"]:
        try:
            management.post_to_connection(ConnectionId=item["connectionId"], Data=message["content"].encode())
            results.append("posted")
        except ClientError as error:
            if error.response["Error"]["Code"] != "GoneException":
                raise
            table.delete_item(Key={"connectionId": item["connectionId"]})
            results.append("gone")
    return {"statusCode": 200, "body": " ".join(results)}
