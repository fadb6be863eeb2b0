"""sendmessage: finds the connections of a user, and posts to them. Connections that are gone are removed."""

import json

import boto3
from jackfield import kv


def handler(event, context):
    request = event["requestContext"]
    management = boto3.client(
        "apigatewaymanagementapi", endpoint_url=f"https://{request['domainName']}/{request['stage']}"
    )
    message = json.loads(event["body"])
    connections = kv.bucket("connections")
    results = []
    keys, _ = connections.list_keys()
    for connection_id in keys:
        if connections.get_text(connection_id) != message["to"]:
            continue
        try:
            management.post_to_connection(ConnectionId=connection_id, Data=message["content"].encode())
            results.append("posted")
        except management.exceptions.GoneException:
            connections.delete(connection_id)
            results.append("gone")
    return {"statusCode": 200, "body": " ".join(results)}
