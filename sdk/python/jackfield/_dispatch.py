"""Calls the functions of a plugin of the package `jackfield`, and checks what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._host import authorizer as contract
from ._host import types
from ._texts import check
from .connections import payload
from .events import ConnectEvent, Context, DisconnectEvent, MessageEvent
from .plugin import DENY, UNAUTHORIZED, Allow, Authorizer, Plugin, Response, Routes


def handle(
    plugin: Plugin | Routes, context: types.RequestContext, event: types.Event, result: Callable[[Any], Any]
) -> types.Response:
    value: Any = event.value
    made: MessageEvent | ConnectEvent | DisconnectEvent
    if isinstance(event, types.Event_Message):
        kind, made = "message", MessageEvent(value.body.value, value.message_id)
    elif isinstance(event, types.Event_Connect):
        kind, made = "connect", ConnectEvent(value.headers, value.query_string)
    else:
        kind, made = "disconnect", DisconnectEvent(value.status_code, value.reason)
    function = plugin.function(kind, context.route_key)
    if function is None:
        return types.Response(200, [], None)
    return response(result(function(made, Context(context))))


def response(returned: object) -> types.Response:
    """Nothing, a str, bytes, a `Response`, or a dict with `statusCode`, `headers` and `body`."""
    if returned is None:
        return types.Response(200, [], None)
    if isinstance(returned, (str, bytes, bytearray, memoryview)):
        return types.Response(200, [], payload(returned))
    if isinstance(returned, Response):
        return _response(returned.status_code, returned.headers, returned.body)
    if isinstance(returned, Mapping) and not returned.keys() - {"statusCode", "headers", "body"}:
        return _response(returned.get("statusCode", 200), returned.get("headers"), returned.get("body"))
    raise TypeError(
        f"the handler returned {short(returned)}; it should return nothing, a str, bytes, a Response or "
        'a dict {"statusCode": .., "headers": .., "body": ..}; use json.dumps for JSON'
    )


def _response(status: Any, headers: Any, body: Any) -> types.Response:
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        raise TypeError(f"the status code of the response is {short(status)}; a number from 100 to 599 was expected")
    if body is not None and not isinstance(body, (str, bytes, bytearray, memoryview)):
        raise TypeError(
            f"the body of the response is {short(body)}; a str or bytes was expected; use json.dumps for JSON"
        )
    return types.Response(status, fields(headers), None if body is None else payload(body))


def fields(headers: Any) -> list[tuple[str, str]]:
    if headers is None:
        return []
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    flat = []
    for name, value in pairs:
        flat += [(str(name), str(one)) for one in (value if isinstance(value, (list, tuple)) else [value])]
    check(flat)
    return flat


def authorize(
    authorizer: Authorizer, context: types.RequestContext, request: types.ConnectEvent, result: Callable[[Any], Any]
) -> contract.Decision:
    event = ConnectEvent(request.headers, request.query_string)
    returned = result(authorizer.authorize(event, Context(context)))
    if isinstance(returned, Allow):
        check(returned.principal_id)
        return contract.Decision_Allow(contract.Grant(returned.principal_id, context_fields(returned.context)))
    if returned is False or returned == DENY:
        return contract.Decision_Deny()
    if returned == UNAUTHORIZED:
        return contract.Decision_Unauthorized()
    raise TypeError(f"the authorizer returned {short(returned)}; it should return Allow(..), DENY or UNAUTHORIZED")


def context_fields(context: Mapping[str, str | int | float | bool] | None) -> list[tuple[str, str]]:
    """The context of a grant: strings, numbers and booleans, as API Gateway takes them."""
    if context is None:
        return []
    flat = []
    for name, value in context.items():
        if not isinstance(value, (str, int, float)):
            raise TypeError(
                f"the authorizer's context has {name}: {short(value)}; only strings, numbers and booleans are allowed"
            )
        flat.append((str(name), str(value).lower() if isinstance(value, bool) else str(value)))
    check(flat)
    return flat


def short(value: object) -> str:
    text = repr(value)
    return f"{text[:100]}..." if len(text) > 100 else text
