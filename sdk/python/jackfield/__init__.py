"""Handlers for WebSocket APIs, in Python.

    from jackfield import connections, plugin, store

    def connect(event, context):
        store.add(context.connection_id, "room", event.query.get("room", "lobby"))

    def message(event, context):
        connections.post_to_matching("room", "lobby", event.text())

    handler = plugin(connect=connect, message=message)
"""

from . import config, connections, kv, log, store
from .errors import (
    AccessDeniedError,
    ForbiddenError,
    GoneError,
    JackfieldError,
    KvError,
    LimitExceededError,
    NoSuchConnectionError,
    PayloadTooLargeError,
    TooLargeError,
    UnavailableError,
)
from .events import ConnectEvent, Context, DisconnectEvent, Fields, MessageEvent
from .plugin import DENY, UNAUTHORIZED, Allow, Response, authorizer, plugin, routes

__all__ = [
    "AccessDeniedError",
    "Allow",
    "ConnectEvent",
    "Context",
    "DENY",
    "DisconnectEvent",
    "Fields",
    "ForbiddenError",
    "GoneError",
    "JackfieldError",
    "KvError",
    "LimitExceededError",
    "MessageEvent",
    "NoSuchConnectionError",
    "PayloadTooLargeError",
    "Response",
    "TooLargeError",
    "UNAUTHORIZED",
    "UnavailableError",
    "authorizer",
    "config",
    "connections",
    "kv",
    "log",
    "plugin",
    "routes",
    "store",
]
