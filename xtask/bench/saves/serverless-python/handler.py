def handler(event, context):
    if event["requestContext"]["eventType"] == "MESSAGE":
        return {"statusCode": 200, "body": "answer-0"}
    return {"statusCode": 200}
