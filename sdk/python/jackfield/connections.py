"""The `@connections` operations, and posts to many connections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ._host import Err, refuse_while_loading, types
from ._host import connections as host
from ._texts import check_texts
from .errors import ForbiddenError, GoneError, JackfieldError, LimitExceededError, PayloadTooLargeError

_ERRORS = {
    host.ConnectionError.GONE: GoneError,
    host.ConnectionError.PAYLOAD_TOO_LARGE: PayloadTooLargeError,
    host.ConnectionError.LIMIT_EXCEEDED: LimitExceededError,
    host.ConnectionError.FORBIDDEN: ForbiddenError,
}
_CLOSE_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


@dataclass(frozen=True)
class ConnectionInfo:
    """Times are milliseconds since the Unix epoch."""

    connected_at: int
    last_active_at: int
    source_ip: str
    user_agent: str | None


def payload(data: str | bytes | bytearray | memoryview) -> types.Payload:
    if isinstance(data, str):
        check_texts(data=data)
        return types.Payload_Text(data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return types.Payload_Binary(bytes(data))
    raise TypeError(f"a message is a str or bytes, not {type(data).__name__}; use json.dumps for JSON")


def post_to_connection(connection_id: str, data: str | bytes) -> None:
    """Queues a message for the peer."""
    refuse_while_loading("jackfield.connections")
    check_texts(connection_id=connection_id)
    try:
        host.post_to_connection(connection_id, payload(data))
    except Err as error:
        raise _ERRORS[error.value]() from None


def post_to_connections(connection_ids: Iterable[str], data: str | bytes) -> list[JackfieldError | None]:
    """Queues the same message for many peers. Returns `None` or the error for each id."""
    refuse_while_loading("jackfield.connections")
    ids = list(connection_ids)
    for connection_id in ids:
        check_texts(connection_id=connection_id)
    results = host.post_to_connections(ids, payload(data))
    return [_ERRORS[result.value]() if isinstance(result, Err) else None for result in results]


def post_to_matching(name: str, value: str, data: str | bytes, *, except_: str | None = None) -> int:
    """Queues the same message for every connection whose row has this attribute, but for `except_`.

    Returns for how many connections it was queued.
    """
    refuse_while_loading("jackfield.connections")
    check_texts(name=name, value=value)
    if except_ is not None:
        check_texts(except_=except_)
    try:
        return host.post_to_matching(name, value, payload(data), except_)
    except Err as error:
        raise _ERRORS[error.value]() from None


def get_connection(connection_id: str) -> ConnectionInfo:
    """Returns when the peer has connected and was last active, and who it is."""
    refuse_while_loading("jackfield.connections")
    check_texts(connection_id=connection_id)
    try:
        info = host.get_connection(connection_id)
    except Err as error:
        raise _ERRORS[error.value]() from None
    return ConnectionInfo(
        info.connected_at, info.last_active_at, info.identity.source_ip, info.identity.user_agent
    )


def delete_connection(connection_id: str, code: int | None = None, reason: str = "") -> None:
    """Closes the connection, with code 1000 and no reason if none is given."""
    refuse_while_loading("jackfield.connections")
    check_texts(connection_id=connection_id, reason=reason)
    frame = None
    if code is not None or reason:
        code = 1000 if code is None else code
        # The host traps for any other frame.
        if code not in _CLOSE_CODES:
            raise ValueError(f"{code} is no close code that a handler can send: 1000 to 1003, 1007 to 1014, 3000 to 4999")
        if len(reason.encode()) > 123:
            raise ValueError("the reason of a close frame has at most 123 bytes")
        frame = host.CloseFrame(int(code), reason)
    try:
        host.delete_connection(connection_id, frame)
    except Err as error:
        raise _ERRORS[error.value]() from None
