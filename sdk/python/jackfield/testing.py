"""A test double of the host: handlers run in unittest or pytest, and no server has to be started.

    from jackfield.testing import Host

    from handler import handler

    def test_a_message_is_posted_to_everybody_in_the_room():
        host = Host()
        a = host.connect(handler, "?room=red")
        b = host.connect(handler, "?room=red")
        a.send("hello")
        assert host.posts_to(b) == ["hello"]

A row exists from before `$connect` until after `$disconnect`, and a rejected peer leaves none. A post to a connection that
is unknown, is closed or has not finished its `$connect` fails with `GoneError`. Payloads, attributes, keys, values, buckets
and the number of host calls have the limits of a server. What ends an event on a server, whatever the handler catches,
raises `Trap`.

Not simulated are the sandbox with its limits of time and memory, grants other than those of buckets, and peers that read
too slowly; `Host.fail_posts_to` makes posts fail.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _dispatch, connections
from ._double import authorizer as _contract
from ._double import limits as _limits
from ._double import state as _state
from ._double import types as _types
from ._double.limits import Trap
from ._double.state import ConnectionClosed
from .errors import JackfieldError
from .plugin import DENY, UNAUTHORIZED, Allow, Authorizer, Plugin, Response, Routes

__all__ = ["ConnectError", "ConnectionClosed", "Host", "LogLine", "Peer", "Trap"]


class ConnectError(Exception):
    """The handler rejected the peer: the status of its response is not from 200 to 299."""

    def __init__(self, response: Response):
        super().__init__(f"the handler rejected the peer with {response.status_code}")
        self.response = response
        self.status_code = response.status_code


@dataclass(frozen=True)
class LogLine:
    """A line that a handler has logged with `jackfield.log`."""

    # "trace", "debug", "info", "warn", "error" or "critical"
    level: str
    message: str


class Host:
    """The test double of the host. The functions of `jackfield` use the one that was made last.

    `routes` are the route keys of the manifest besides `$connect`, `$disconnect` and `$default`. Without them, a handler
    of `routes(..)` has its own, and with `plugin(..)` every action is a route.
    """

    def __init__(self, routes: Iterable[str] | None = None):
        self._double = _state.Double()
        self._routes = None if routes is None else frozenset(routes)
        _state.activate(self._double)

    def connect(
        self,
        handler: Plugin | Routes,
        query: str = "",
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        source_ip: str = "127.0.0.1",
        authorizer: Mapping[str, str] | None = None,
    ) -> Peer:
        """Connects a peer with this query string: `"?userId=A"`, or `""` for none.

        `authorizer` are the values that an authorizer has granted. Raises `ConnectError` if the handler rejects the peer,
        and what the handler raises.
        """
        if not isinstance(handler, (Plugin, Routes)):
            raise TypeError(f"expected what plugin(..) or routes(..) returns, found {type(handler).__name__}")

        def handle(context: Any, event: Any, result: Any) -> Any:
            return _dispatch.handle(handler, context, event, result)

        connection, event = self._request(handle, query, headers, source_ip, authorizer)
        id, response = self._double.connect(connection, event)
        if not connection.is_open and connection.closed is None:
            raise ConnectError(_response(response))
        routes = self._routes
        if routes is None and isinstance(handler, Routes):
            routes = frozenset(handler.functions)
        return Peer(self._double, id, routes, _response(response))

    def authorize(
        self,
        authorizer: Authorizer,
        query: str = "",
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        source_ip: str = "127.0.0.1",
    ) -> Any:
        """Returns the decision of an authorizer about a peer, which is not connected: `Allow(..)`, `DENY` or
        `UNAUTHORIZED`."""
        if not isinstance(authorizer, Authorizer):
            raise TypeError(f"expected what authorizer(..) returns, found {type(authorizer).__name__}")

        def handle(context: Any, event: Any, result: Any) -> Any:
            return _dispatch.authorize(authorizer, context, event.value, result)

        decision = self._double.authorize(*self._request(handle, query, headers, source_ip, None))
        if isinstance(decision, _contract.Decision_Allow):
            return Allow(decision.value.principal_id, dict(decision.value.context))
        return DENY if isinstance(decision, _contract.Decision_Deny) else UNAUTHORIZED

    def posts_to(self, peer: Peer) -> list[str | bytes]:
        """Returns the messages that were posted to the peer so far, in order.

        Responses of the handler are not among them: `Peer.send` returns those.
        """
        return list(self._double.connections[peer.id].posts)

    def take_posts_to(self, peer: Peer) -> list[str | bytes]:
        """Returns and removes the messages that were posted to the peer so far, in order."""
        posts = self.posts_to(peer)
        self._double.connections[peer.id].posts.clear()
        return posts

    def fail_posts_to(self, peer: Peer, error: type[JackfieldError]) -> None:
        """Makes every later post to the peer fail with this error: with `LimitExceededError`, the peer behaves like one
        that reads too slowly."""
        found = [host_error for host_error, own in connections._ERRORS.items() if own is error]
        if not found:
            raise ValueError(f"a post never fails with {error.__name__}")
        self._double.connections[peer.id].post_error = found[0]

    def add_bucket(
        self, name: str, *, size: int = _limits.BUCKET_BYTES_MAX, keys: int = _limits.BUCKET_KEYS_MAX
    ) -> None:
        """Grants a bucket that may hold `size` bytes in `keys` keys, like `buckets` and `[buckets.NAME]` of the
        manifest."""
        bucket = self._double.buckets.setdefault(name, _state.BucketContent())
        bucket.bytes_max, bucket.keys_max = size, keys

    def set_config(self, name: str, value: str) -> None:
        """Sets a value of the handler's configuration."""
        self._double.config[name] = value

    def set_stage_variable(self, name: str, value: str) -> None:
        """Sets a stage variable."""
        self._double.stage_variables[name] = value

    def advance(self, seconds: float) -> None:
        """Advances the clock of the host, which does not run by itself. `time.time()` is not part of it."""
        self._double.now_ms += round(seconds * 1000)

    @property
    def now_ms(self) -> int:
        """The time of the host, in milliseconds since the Unix epoch."""
        return self._double.now_ms

    @property
    def logs(self) -> list[LogLine]:
        """The lines that handlers have logged with `jackfield.log`."""
        return [LogLine(level, message) for level, message in self._double.logs]

    @property
    def failures(self) -> list[BaseException]:
        """What `$disconnect` has raised for connections that a handler has deleted. No call of the test raises it."""
        return list(self._double.failures)

    def _request(
        self,
        handle: _state.Handle,
        query: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        source_ip: str,
        authorizer: Mapping[str, str] | None,
    ) -> tuple[_state.Connection, _types.ConnectEvent]:
        sent = [(str(name), value) for name, value in (headers.items() if isinstance(headers, Mapping) else headers)]
        user_agent = next((value for name, value in sent if name.lower() == "user-agent"), None)
        now = self._double.now_ms
        granted = list((authorizer or {}).items())
        connection = _state.Connection(now, now, _types.Identity(source_ip, user_agent), granted, handle)
        return connection, _types.ConnectEvent(sent, _query_fields(query))


class Peer:
    """The peer of a connection that was admitted."""

    def __init__(self, double: _state.Double, id: str, routes: frozenset[str] | None, response: Response):
        self._double = double
        self._routes = routes
        # The id of the connection.
        self.id = id
        # The handler's response to `$connect`.
        self.response = response

    def send(self, body: str | bytes) -> Response:
        """Sends a message and returns the handler's response.

        `$request.body.action` selects the route; a message without one, or with one that is no route, is sent to
        `$default`. Raises what the handler raises, and `ConnectionClosed`.
        """
        return self.send_to(_select_route(body, self._routes), body)

    def send_to(self, route_key: str, body: str | bytes) -> Response:
        """Sends a message to this route, whatever the message contains."""
        if not isinstance(body, (str, bytes)):
            raise TypeError(f"a message is a str or bytes, not {type(body).__name__}; use json.dumps for JSON")
        return _response(self._double.message(self.id, route_key, body))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes the connection and runs its `$disconnect`. Raises what the handler raises; the connection is closed in
        any case."""
        self._double.close(self.id, code, reason)

    @property
    def is_open(self) -> bool:
        return self.closed is None

    @property
    def closed(self) -> tuple[int, str] | None:
        """The code and reason with which either side has closed the connection, and `None` while it is open."""
        return self._double.connections[self.id].closed

    def __repr__(self) -> str:
        return f"Peer({self.id!r})"


def _response(response: _types.Response) -> Response:
    body = None if response.body is None else response.body.value
    return Response(response.status_code, body, dict(response.headers))


def _query_fields(query: str) -> list[tuple[str, str]]:
    """Parses a query string such as `?a=1&b=2` and decodes its percent-encoding."""
    pairs = [pair.partition("=") for pair in query.removeprefix("?").split("&") if pair]
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: str) -> str:
    return urllib.parse.unquote_plus(text, errors="replace")


def _select_route(body: str | bytes, routes: frozenset[str] | None) -> str:
    """Returns the route that `$request.body.action` selects; any action is a route if `routes` is `None`."""
    if not isinstance(body, str):
        return "$default"
    try:
        document = json.loads(body, parse_constant=_no_constant, parse_int=_Number, parse_float=_Number)
    except ValueError:
        return "$default"
    action = _action_text(document["action"]) if isinstance(document, dict) and "action" in document else ""
    is_route = routes is None or action in routes
    return action if action and not action.startswith("$") and is_route else "$default"


class _Number(str):
    """A number as it is written."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _action_text(action: object) -> str:
    """The text of an action: a string as it is, an array as `[item1, item2]`, and anything else as JSON."""
    if isinstance(action, str):
        return action
    if isinstance(action, list):
        return f"[{', '.join(map(_action_text, action))}]"
    return _json_text(action)


def _json_text(value: object) -> str:
    if isinstance(value, _Number):
        return value
    if isinstance(value, list):
        return f"[{','.join(map(_json_text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_json_text(name)}:{_json_text(field)}' for name, field in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
