"""The event that is being handled, as the JSON that API Gateway sends to a Lambda function.

The keys, their order and the values are those of a server, for a peer without a proxy.
"""

from __future__ import annotations

import base64
import json
import time

from . import types

_Fields = list[tuple[str, str]]
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def of_handler(request: types.RequestContext, connection: types.ConnectionContext, event: types.Event) -> str:
    found: dict[str, object] = {}
    if isinstance(event, types.Event_Connect):
        headers = _forwarded(request, connection, event.value.headers)
        for name in ("connection", "upgrade", "content-length"):
            headers.pop(name, None)
        found |= _headers(headers)
        if event.value.query_string:
            found |= _grouped("queryStringParameters", "multiValueQueryStringParameters", event.value.query_string)
    elif isinstance(event, types.Event_Disconnect):
        empty = [(name, "") for name in ("x-api-key", "X-Forwarded-For", "x-restapi")]
        found |= _grouped("headers", "multiValueHeaders", [("Host", connection.domain_name), *empty])
    if connection.stage_variables:
        found["stageVariables"] = dict(connection.stage_variables)
    found["requestContext"] = _request_context(request, connection, event)
    is_base64_encoded = False
    if isinstance(event, types.Event_Message):
        body = event.value.body.value
        is_base64_encoded = isinstance(body, bytes)
        found["body"] = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    found["isBase64Encoded"] = is_base64_encoded
    return _dumps(found)


def of_authorizer(request: types.RequestContext, connection: types.ConnectionContext, event: types.Event) -> str:
    """The event of a REQUEST authorizer, whose event is that of `$connect`."""
    assert isinstance(event, types.Event_Connect), "an authorizer receives only upgrade requests"
    headers = _forwarded(request, connection, event.value.headers)
    for name, value in (("Connection", "upgrade"), ("Upgrade", "websocket"), ("content-length", "0")):
        headers[name.lower()] = (name, [value])
    stage = f"{connection.api_id}/{connection.stage}"
    return _dumps(
        {
            "type": "REQUEST",
            "methodArn": f"arn:aws:execute-api:us-east-1:123456789012:{stage}/{request.route_key}",
            **_headers(headers),
            **_grouped("queryStringParameters", "multiValueQueryStringParameters", event.value.query_string),
            "stageVariables": dict(connection.stage_variables),
            "requestContext": _request_context(request, connection, event),
        }
    )


def _forwarded(
    request: types.RequestContext, connection: types.ConnectionContext, sent: _Fields
) -> dict[str, tuple[str, list[str]]]:
    """The headers by their names in lower case, with those that API Gateway adds. The values that a proxy has sent are
    kept."""
    headers: dict[str, tuple[str, list[str]]] = {}
    for name, value in sent:
        headers.setdefault(name.lower(), (name, []))[1].append(value)

    def values(name: str) -> list[str]:
        return headers.get(name.lower(), (name, []))[1]

    def put(name: str, value: str) -> None:
        headers[name.lower()] = (name, [value])

    trace_id = f"Root=1-{request.request_time // 1000:08x}-{request.request_id.rstrip('='):0>24}"
    proto = (values("X-Forwarded-Proto") or ["http"])[-1]
    _, _, port = connection.domain_name.rpartition(":")
    has_port = ":" in connection.domain_name and port.isascii() and port.isdigit()
    port = port if has_port else "443" if proto.lower() == "https" else "80"
    put("X-Amzn-Trace-Id", (values("X-Amzn-Trace-Id") or [trace_id])[-1])
    put("X-Forwarded-For", ", ".join([*values("X-Forwarded-For"), connection.identity.source_ip]))
    put("X-Forwarded-Port", (values("X-Forwarded-Port") or [port])[-1])
    put("X-Forwarded-Proto", proto)
    return headers


def _headers(headers: dict[str, tuple[str, list[str]]]) -> dict[str, object]:
    found = [headers[name] for name in sorted(headers)]
    return {
        "headers": {name: values[-1] for name, values in found},
        "multiValueHeaders": {name: values for name, values in found},
    }


def _grouped(last: str, every: str, fields: _Fields) -> dict[str, object]:
    """Fields under two keys: with the last value of each name, and with all values."""
    grouped: dict[str, list[str]] = {}
    for name, value in fields:
        grouped.setdefault(name, []).append(value)
    return {last: {name: values[-1] for name, values in grouped.items()}, every: grouped}


def _request_context(
    request: types.RequestContext, connection: types.ConnectionContext, event: types.Event
) -> dict[str, object]:
    found: dict[str, object] = {"routeKey": request.route_key}
    if connection.authorizer:
        found["authorizer"] = dict(connection.authorizer)
    if isinstance(event, types.Event_Message):
        found["messageId"] = event.value.message_id
        event_type = "MESSAGE"
    elif isinstance(event, types.Event_Disconnect):
        found["disconnectStatusCode"] = event.value.status_code
        event_type = "DISCONNECT"
    else:
        event_type = "CONNECT"
    found["eventType"] = event_type
    found["extendedRequestId"] = request.request_id
    found["requestTime"] = clf_time(request.request_time)
    found["messageDirection"] = "IN"
    if isinstance(event, types.Event_Disconnect):
        found["disconnectReason"] = event.value.reason
    found["stage"] = connection.stage
    found["connectedAt"] = request.connected_at
    found["requestTimeEpoch"] = request.request_time
    user_agent = connection.identity.user_agent
    peer = {} if user_agent is None else {"userAgent": user_agent}
    found["identity"] = {**peer, "sourceIp": connection.identity.source_ip}
    found["requestId"] = request.request_id
    found["domainName"] = connection.domain_name
    found["connectionId"] = request.connection_id
    found["apiId"] = connection.api_id
    return found


def clf_time(milliseconds: int) -> str:
    """Formats a time as in `requestTime`: `09/Feb/2024:18:11:43 +0000`."""
    at = time.gmtime(milliseconds // 1000)
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year:04}:{clock} +0000"


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
