"""$connect: stores the connection with its user."""

from jackfield import kv


def handler(event, context):
    user = event["queryStringParameters"]["userId"]
    kv.bucket("connections").set(event["requestContext"]["connectionId"], user)
    return {"statusCode": 200, "body": "Connected."}
