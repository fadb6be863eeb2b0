"""Runs the code that every event runs, so that it is specialised and the caches of its types are filled.

It runs often when the base image is built, and once more after each load, which changes caches.
"""

import json
import random

from jackfield.plugin import Plugin
from wit_world.imports import types

from . import exports, lambda_style, loading
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
            "eventType": "MESSAGE",
            "connectionId": "c",
            "requestTimeEpoch": 1,
            "identity": {"sourceIp": "127.0.0.1"},
        },
        "body": '{"a": 1}',
        "isBase64Encoded": False,
    }
)


def _connect(event, context):
    return {"statusCode": 200, "body": event.query.get("room", context.connection_id)}


def _message(event, context):
    return event.body


def _disconnect(event, context):
    return None


def _lambda(event, context):
    return {"statusCode": 200, "body": event["body"]}


async def _async_lambda(event, context):
    return {"statusCode": 200}


_SCRIPTS = [
    loading.Script(Plugin(_connect, _message, _disconnect), is_lambda=False),
    loading.Script(_lambda, is_lambda=True),
    loading.Script(_async_lambda, is_lambda=True),
]
_handler = exports.Handler()


def _run(rounds: int) -> None:
    script, event_json = loading.script, lambda_style.event_json
    fresh, exports._fresh = exports._fresh, False
    lambda_style.event_json = _json
    try:
        for _ in range(rounds):
            for loading.script in _SCRIPTS:
                for event in _EVENTS:
                    _handler.handle(_CONTEXT, event)
    finally:
        loading.script, lambda_style.event_json = script, event_json
        exports._fresh = fresh


def _json() -> str:
    return _JSON


def warm() -> None:
    """Runs once, when the base image is built."""
    _run(100)
    random.seed(0)
    assert state.loading
    loading.warm = _after_load


def _after_load() -> None:
    _run(2)
