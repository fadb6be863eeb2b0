"""$disconnect: removes the connection."""

from jackfield import kv


def handler(event, context):
    kv.bucket("connections").delete(event["requestContext"]["connectionId"])
    return {"statusCode": 200, "body": "Disconnected."}
