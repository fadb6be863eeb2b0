"""Runs the code that every event runs, so that it is specialised and the caches of its types are filled.

It runs often when the base image is built, and once more after each load, which changes caches.
"""

import contextlib
import json
import logging
import random
import sys
from types import CodeType

import boto3
from jackfield import connections, store
from jackfield.plugin import Plugin
from wit_world.imports import connection_store, current_connection
from wit_world.imports import connections as host_connections
from wit_world.imports import jackfield_gateway_types as types
from wit_world.imports import logging as host_logging

from . import compaction, exports, lambda_style, loading, randomness
from .state import state

_CONTEXT = types.RequestContext("c", "$default", "r", 1 << 40, 1 << 40)
_EVENTS = [
    types.Event_Message(types.MessageEvent("m", types.Payload_Text('{"a": [1, "b", null, 1.5]}'))),
    types.Event_Message(types.MessageEvent("m", types.Payload_Binary(b"x"))),
    types.Event_Connect(types.ConnectEvent([("Host", "b")], [("room", "a")])),
    types.Event_Disconnect(types.DisconnectEvent(1005, "")),
]
_JSON = json.dumps(
    {
        "requestContext": {
            "routeKey": "$default",
            "messageId": "m",
            "eventType": "MESSAGE",
            "extendedRequestId": "r",
            "requestTime": "01/Jan/2026:00:00:00 +0000",
            "messageDirection": "IN",
            "stage": "dev",
            "connectedAt": 1,
            "requestTimeEpoch": 1,
            "identity": {"sourceIp": "127.0.0.1"},
            "requestId": "r",
            "domainName": "localhost",
            "connectionId": "c",
            "apiId": "a",
        },
        "body": '{"action": "sendmessage", "to": "c", "content": "hello"}',
        "isBase64Encoded": False,
    }
)


def _connect(event, context):
    return {"statusCode": 200, "body": event.query.get("room", context.connection_id)}


def _message(event, context):
    return event.body if isinstance(event.body, bytes) else json.dumps(event.json())


def _disconnect(event, context):
    return None


def _lambda(event, context):
    return {"statusCode": 200, "body": event["body"]}


async def _async_lambda(event, context):
    return {"statusCode": 200}


def _posting_lambda(event, context):
    request = event["requestContext"]
    message = json.loads(event["body"])
    logging.getLogger().info("request %s: %s", request["requestId"], message["action"])
    endpoint = f"https://{request['domainName']}/{request['stage']}"
    client = boto3.client("apigatewaymanagementapi", endpoint_url=endpoint)
    data = json.dumps({"from": request["connectionId"], "content": message["content"]})
    client.post_to_connection(ConnectionId=message["to"], Data=data.encode())
    return {"statusCode": 200, "body": json.dumps({"sent": True, "remaining": context.get_remaining_time_in_millis()})}


def _storing_message(event, context):
    store.put(context.connection_id, {"user": "a"})
    connections.post_to_connection(context.connection_id, store.get(context.connection_id).get("user"))
    return event.text()


_SCRIPTS = [
    loading.Script(Plugin(_connect, _message, _disconnect), is_lambda=False),
    loading.Script(_lambda, is_lambda=True),
    loading.Script(_async_lambda, is_lambda=True),
    loading.Script(_posting_lambda, is_lambda=True),
    loading.Script(Plugin(message=_storing_message), is_lambda=False),
]
# What these call of the host, and what it returns to them.
_HOST = [
    (current_connection, "event", lambda: _JSON),
    (host_connections, "post_to_connection", lambda id, data: None),
    (connection_store, "put", lambda id, attributes: None),
    (connection_store, "get", lambda id: connection_store.Row(id, 1, [("user", "a")])),
    (host_logging, "log", lambda level, context, message: None),
    (randomness, "_urandom", bytes),
]
_handler = exports.Handler()


@contextlib.contextmanager
def _without_host():
    """There is no host while the base image is built, and none that may be called while a script is loaded."""
    replaced = [(module, name, getattr(module, name)) for module, name, _ in _HOST]
    for module, name, function in _HOST:
        setattr(module, name, function)
    before = state.loading, lambda_style.event_json, exports._fresh
    lambda_style.event_json = current_connection.event
    try:
        yield
    finally:
        state.loading, lambda_style.event_json, exports._fresh = before
        for module, name, function in replaced:
            setattr(module, name, function)


def _run(rounds: int) -> None:
    script = loading.script
    try:
        with _without_host():
            for _ in range(rounds):
                for loading.script in _SCRIPTS:
                    for event in _EVENTS:
                        # Most events are the first of their instance.
                        exports._fresh = True
                        _handler.handle(_CONTEXT, event)
    finally:
        loading.script = script


def _called() -> list[CodeType]:
    """The code of the functions that events call, in the order of their first calls."""
    called = {}
    sys.setprofile(lambda frame, event, argument: called.setdefault(frame.f_code))
    try:
        _run(1)
    finally:
        sys.setprofile(None)
    return list(called)


def warm() -> None:
    """Runs once, when the base image is built."""
    compaction.gather(_called())
    _run(100)
    random.seed(0)
    assert state.loading
    loading.warm = _after_load


def _after_load() -> None:
    _run(2)
