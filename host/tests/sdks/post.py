"""Uses one connection through the published boto3, from the first post to its DELETE. Prints one line for each step.

usage: post.py CONNECTION_ID ENDPOINT_OF_ANOTHER_STAGE

The endpoint is in AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI, so that the code is the same as for AWS.
"""

import sys
from datetime import timedelta
from urllib.error import HTTPError
from urllib.request import urlopen

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

connection_id, another_stage = sys.argv[1:]
# Without retries: the errors of these calls are permanent.
once = Config(retries={"total_max_attempts": 1})
client = boto3.client("apigatewaymanagementapi", config=once)


def report(step, call, **arguments):
    """Makes a call, and prints its status or its exception."""
    try:
        answer = call(**arguments)
        print(step, answer["ResponseMetadata"]["HTTPStatusCode"])
        assert len(answer["ResponseMetadata"]["RequestId"]) == 16, answer
        return answer
    except ClientError as error:
        status, details = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]
        print(step, status, type(error).__name__, details["Code"], details["Message"] if status != 410 else "")


report("post", client.post_to_connection, ConnectionId=connection_id, Data="hello, größe".encode())
report("post", client.post_to_connection, ConnectionId=connection_id, Data=b"x" * 131072)
report("too long", client.post_to_connection, ConnectionId=connection_id, Data=b"x" * 131073)
report("far too long", client.post_to_connection, ConnectionId=connection_id, Data=b"x" * 8_000_000)
report("no text", client.post_to_connection, ConnectionId=connection_id, Data=b"\xff")
report("no id", client.post_to_connection, ConnectionId="foo/bar", Data=b"hello")

answer = report("get", client.get_connection, ConnectionId=connection_id)
connected_at, last_active_at = answer["ConnectedAt"], answer["LastActiveAt"]
assert connected_at.utcoffset() == timedelta(0) and connected_at <= last_active_at, answer
print("times", *(time.isoformat(timespec="milliseconds")[:-6] + "Z" for time in (connected_at, last_active_at)))
print("identity", answer["Identity"]["SourceIp"], answer["Identity"]["UserAgent"])

elsewhere = boto3.client("apigatewaymanagementapi", endpoint_url=another_stage, config=once)
report("another stage", elsewhere.post_to_connection, ConnectionId=connection_id, Data=b"x" * 131072)
report("another stage", elsewhere.get_connection, ConnectionId=connection_id)

guess = boto3.client("apigatewaymanagementapi", config=once, aws_secret_access_key="guess", aws_access_key_id="key")
report("another secret", guess.post_to_connection, ConnectionId=connection_id, Data=b"hello")
stranger = boto3.client("apigatewaymanagementapi", config=once, aws_secret_access_key="secret", aws_access_key_id="you")
report("another key", stranger.get_connection, ConnectionId=connection_id)


def fetch(step, url):
    try:
        print(step, urlopen(url).status)
    except HTTPError as error:
        print(step, error.code)


url = client.generate_presigned_url("get_connection", Params={"ConnectionId": connection_id}, ExpiresIn=60)
fetch("presigned", url)
fetch("presigned and lengthened", url.replace("Expires=60", "Expires=600"))

posted = 0
while posted < 2000:
    try:
        client.post_to_connection(ConnectionId=connection_id, Data=b"x" * 60000)
        posted += 1
    except client.exceptions.LimitExceededException as error:
        print("flood", error.response["ResponseMetadata"]["HTTPStatusCode"], type(error).__name__)
        break

patient = boto3.client("apigatewaymanagementapi", config=Config(retries={"mode": "standard"}))


def tries(what):
    """Prints how often a client with the default retries sends a call that fails."""
    try:
        patient.post_to_connection(ConnectionId=connection_id, Data=b"x" * 60000)
    except ClientError as error:
        print(what, "tries", 1 + error.response["ResponseMetadata"]["RetryAttempts"])


tries("full")
report("delete", client.delete_connection, ConnectionId=connection_id)
report("post", client.post_to_connection, ConnectionId=connection_id, Data=b"late")
report("get", client.get_connection, ConnectionId=connection_id)
report("delete", client.delete_connection, ConnectionId=connection_id)
tries("gone")
try:
    client.post_to_connection(ConnectionId=connection_id, Data=b"late")
except client.exceptions.GoneException:
    print("caught as gone")
