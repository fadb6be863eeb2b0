"""The `@connections` operations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from . import state
from .limits import CLOSE_REASON_BYTES_MAX, MESSAGE_BYTES_MAX, TURN_POSTS, Trap, check_parameters, size, texts_bytes
from .types import Err, Identity, Payload


class ConnectionError(Enum):
    GONE = 0
    PAYLOAD_TOO_LARGE = 1
    LIMIT_EXCEEDED = 2
    FORBIDDEN = 3


@dataclass
class ConnectionInfo:
    connected_at: int
    last_active_at: int
    identity: Identity


@dataclass
class CloseFrame:
    code: int
    reason: str


def post_to_connection(id: str, data: Payload) -> None:
    check_parameters(size(id) + size(data.value))
    _post(id, data)


def post_to_connections(ids: list[str], data: Payload) -> list[Err | None]:
    check_parameters(texts_bytes(ids) + size(data.value))
    results: list[Err | None] = []
    for id in ids:
        try:
            _post(id, data)
            results.append(None)
        except Err as error:
            results.append(error)
    return results


def post_to_matching(name: str, value: str, data: Payload, except_: str | None) -> int:
    check_parameters(size(name) + size(value) + size(data.value) + size(except_ or ""))
    _check_size(data)
    double = state.current()
    _count(double, 1)
    matching = [id for id, attributes in double.rows.items() if (name, value) in attributes]
    # The call itself was counted as the first turn.
    _count(double, max(0, -(-len(matching) // TURN_POSTS) - 1))
    queued = 0
    for id in matching:
        if id != except_:
            try:
                double.post(id, data.value)
                queued += 1
            except Err:
                pass
    return queued


def get_connection(id: str) -> ConnectionInfo:
    check_parameters(size(id))
    double = state.current()
    _count(double, 1)
    connection = double.open_connection(id)
    return ConnectionInfo(connection.connected_at, connection.last_active_at, connection.identity)


def delete_connection(id: str, frame: CloseFrame | None) -> None:
    check_parameters(size(id) + size(frame.reason if frame else ""))
    double = state.current()
    _count(double, 1)
    code, reason = (frame.code, frame.reason) if frame else (1000, "")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise Trap(f"{code} is not a close code that can be sent")
    if size(reason) > CLOSE_REASON_BYTES_MAX:
        raise Trap(f"a close reason has at most {CLOSE_REASON_BYTES_MAX} bytes")
    double.delete(id, code, reason)


def _post(id: str, data: Payload) -> None:
    _check_size(data)
    double = state.current()
    _count(double, 1)
    double.post(id, data.value)


def _count(double: state.Double, calls: int) -> None:
    if not double.count_host_calls(calls):
        raise Err(ConnectionError.LIMIT_EXCEEDED)


def _check_size(data: Payload) -> None:
    if size(data.value) > MESSAGE_BYTES_MAX:
        raise Err(ConnectionError.PAYLOAD_TOO_LARGE)
