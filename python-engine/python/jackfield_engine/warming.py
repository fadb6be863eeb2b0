"""Runs the code that every event runs, so that it is specialised and the caches of its types are filled."""

import json
import random

from jackfield.plugin import Plugin
from wit_world.imports import types

from . import exports, loading, native_style


def _context(number: int):
    return types.RequestContext(f"c{number}", "$default", f"r{number}", 1 << 40, 1 << 40)


_EVENTS = [
    types.Event_Message(types.MessageEvent("m", types.Payload_Text('{"a": [1, "b", null, 1.5]}'))),
    types.Event_Message(types.MessageEvent("m", types.Payload_Binary(b"x"))),
    types.Event_Connect(types.ConnectEvent([("Host", "b")], [("room", "a")])),
    types.Event_Disconnect(types.DisconnectEvent(1005, "")),
]


def warm() -> None:
    def connect(event, context):
        return {"statusCode": 200, "body": event.query.get("room", context.connection_id)}

    def message(event, context):
        if isinstance(event.body, str):
            return json.dumps({"a": event.json(), "b": context.route_key})
        return event.body

    async def disconnect(event, context):
        return None

    script = loading.Script(Plugin(connect, message, disconnect), is_lambda=False)
    loading.script = script
    result = exports._result
    for number in range(100):
        context = _context(number)
        for event in _EVENTS:
            native_style.handle(script.handler, context, event, result)
    loading.script = None
    random.seed(0)
