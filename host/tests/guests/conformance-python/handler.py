"""The handler of the conformance cases: each event makes the calls that came with it, and keeps or returns their results."""

import json

import calls
from jackfield import ConnectEvent, Context, DisconnectEvent, MessageEvent, Response, kv, plugin
from values import REPLY_PREFIX, expand, from_bytes, shortened

# The bucket in which the handler keeps results, and calls for later events. No case uses it.
BUCKET = kv.bucket("conformance")


def connect(event: ConnectEvent, context: Context) -> Response:
    """Makes the calls of the parameter `calls`, and keeps their results as `connect ID`."""
    request = {
        "connection-id": context.connection_id,
        "route-key": context.route_key,
        "query-string": [[name, value] for name, value in event.query.pairs if name not in ("calls", "status")],
        "headers": [[name, value] for name, value in event.headers.pairs if name.lower().startswith("x-test")],
    }
    if "calls" in event.query:
        keep(f"connect {context.connection_id}", run(json.loads(event.query["calls"]), context, request))
    return Response(int(event.query.get("status", "200")))


def message(event: MessageEvent, context: Context) -> str | Response:
    """Makes the calls of a message, or keeps them for `$disconnect`, or returns results that were kept, or a response of a
    given status and length. Any other message is returned with its route."""
    document = parsed(event.body)
    if isinstance(document.get("calls"), list):
        request = {"connection-id": context.connection_id, "route-key": context.route_key}
        reply = run(document["calls"], context, request)
    elif isinstance(document.get("at-disconnect"), list):
        keep(f"calls {context.connection_id}", document["at-disconnect"])
        reply = None
    elif isinstance(document.get("status"), int):
        filler = "x" * ((document.get("bytes") or 0) - len(REPLY_PREFIX))
        return Response(document["status"], REPLY_PREFIX + filler)
    elif isinstance(document.get("kept"), str):
        reply = kept(document["kept"])
    else:
        body = {"text": event.body} if isinstance(event.body, str) else {"binary": from_bytes(event.body)}
        reply = shortened({"route-key": context.route_key, "body": body})
    return REPLY_PREFIX + json.dumps(reply)


def disconnect(event: DisconnectEvent, context: Context) -> None:
    """Makes the calls that were kept for this connection, and keeps their results as `disconnect ID`."""
    request = {
        "connection-id": context.connection_id,
        "route-key": context.route_key,
        "code": event.status_code,
        "reason": event.reason,
    }
    results = run(kept(f"calls {context.connection_id}") or [], context, request)
    keep(f"disconnect {context.connection_id}", results)


def run(requested: list, context: Context, event: dict) -> list:
    return shortened(calls.run(expand(requested), context.connection_id, event))


def parsed(body: str | bytes) -> dict:
    if isinstance(body, bytes):
        return {}
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def keep(key: str, value: object) -> None:
    BUCKET.set(key, json.dumps(value))


def kept(key: str) -> object:
    value = BUCKET.get(key)
    return None if value is None else json.loads(value)


handler = plugin(connect=connect, message=message, disconnect=disconnect)
