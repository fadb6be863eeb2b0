"""The event and the context that the functions of a plugin get. What costs something is made at its first use."""

from __future__ import annotations

import builtins
import json as _json
from collections.abc import Iterator, Mapping
from typing import Any

from ._host import current_connection, types


class Fields(Mapping[str, str]):
    """Names and values as the peer sent them. A look-up returns the first value."""

    __slots__ = ("pairs", "_fold")

    def __init__(self, pairs: list[tuple[str, str]], *, ignore_case: bool = False):
        self.pairs = pairs
        self._fold = str.lower if ignore_case else str

    def __getitem__(self, name: str) -> str:
        wanted = self._fold(name)
        for one, value in self.pairs:
            if self._fold(one) == wanted:
                return value
        raise KeyError(name)

    def get_all(self, name: str) -> list[str]:
        wanted = self._fold(name)
        return [value for one, value in self.pairs if self._fold(one) == wanted]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self._fold(name) for name, _ in self.pairs))

    def __len__(self) -> int:
        return len({self._fold(name) for name, _ in self.pairs})

    def __repr__(self) -> str:
        return f"Fields({self.pairs!r})"


class ConnectEvent:
    type = "connect"
    __slots__ = ("headers", "query")

    def __init__(self, headers: list[tuple[str, str]], query: list[tuple[str, str]]):
        self.headers = Fields(headers, ignore_case=True)
        self.query = Fields(query)


class MessageEvent:
    type = "message"
    __slots__ = ("body", "message_id")

    def __init__(self, body: str | builtins.bytes, message_id: str):
        self.body = body
        self.message_id = message_id

    def text(self) -> str:
        """The body as text; a binary body is decoded as UTF-8."""
        return self.body if isinstance(self.body, str) else self.body.decode()

    def bytes(self) -> builtins.bytes:
        """The body as bytes; a text is encoded as UTF-8."""
        return self.body.encode() if isinstance(self.body, str) else self.body

    def json(self) -> Any:
        """The body parsed as JSON."""
        return _json.loads(self.body)


class DisconnectEvent:
    type = "disconnect"
    __slots__ = ("reason", "status_code")

    def __init__(self, status_code: int, reason: str):
        self.status_code = status_code
        self.reason = reason


class Context:
    """The connection and the request. Times are milliseconds since the Unix epoch."""

    __slots__ = ("_details", "connected_at", "connection_id", "request_id", "request_time", "route_key")

    def __init__(self, context: types.RequestContext):
        self.connection_id: str = context.connection_id
        self.route_key: str = context.route_key
        self.request_id: str = context.request_id
        self.request_time: int = context.request_time
        self.connected_at: int = context.connected_at
        self._details: types.ConnectionContext | None = None

    def _connection(self) -> types.ConnectionContext:
        if self._details is None:
            self._details = current_connection.context()
        return self._details

    @property
    def api_id(self) -> str:
        return self._connection().api_id

    @property
    def stage(self) -> str:
        return self._connection().stage

    @property
    def domain_name(self) -> str:
        return self._connection().domain_name

    @property
    def source_ip(self) -> str:
        return self._connection().identity.source_ip

    @property
    def user_agent(self) -> str | None:
        return self._connection().identity.user_agent

    @property
    def authorizer(self) -> dict[str, str]:
        return dict(self._connection().authorizer)

    @property
    def stage_variables(self) -> dict[str, str]:
        return dict(self._connection().stage_variables)
