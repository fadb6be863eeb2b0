"""The state of the test double, and how it handles events."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from . import authorizer, event_json, types
from .limits import (
    BUCKET_BYTES_MAX,
    BUCKET_KEYS_MAX,
    EVENT_HOST_CALLS,
    FRAME_BYTES_MAX,
    GRANT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    Trap,
    size,
)
from .types import Err

# The initial time of the clock, in November 2023.
_START_MS = 1_700_000_000_000

# The distinct attributes of a row: name and value.
Attributes = set[tuple[str, str]]

# Calls the function of a plugin or an authorizer, as the engine does.
Handle = Callable[[types.RequestContext, types.Event, Callable[[Any], Any]], Any]


@dataclass
class Connection:
    connected_at: int
    last_active_at: int
    identity: types.Identity
    authorizer: list[tuple[str, str]]
    handle: Handle
    is_open: bool = False
    # The code and the reason with which either side has closed the connection.
    closed: tuple[int, str] | None = None
    posts: list[str | bytes] = field(default_factory=list)
    post_error: Any = None


@dataclass
class BucketContent:
    bytes_max: int = BUCKET_BYTES_MAX
    keys_max: int = BUCKET_KEYS_MAX
    pairs: dict[str, bytes] = field(default_factory=dict)


@dataclass
class _CurrentEvent:
    request: types.RequestContext
    event: types.Event
    is_authorizer: bool


class ConnectionClosed(Exception):
    """The connection of the peer is closed, so it cannot send."""


class Double:
    def __init__(self) -> None:
        self.now_ms = _START_MS
        self.connections: dict[str, Connection] = {}
        self.rows: dict[str, Attributes] = {}
        self.buckets: dict[str, BucketContent] = {}
        self.config: dict[str, str] = {}
        self.stage_variables: dict[str, str] = {}
        self.logs: list[tuple[str, str]] = []
        # The errors of `$disconnect` that no call of the test can raise.
        self.failures: list[BaseException] = []
        self._ids_issued = 0
        # The event that is being handled.
        self._current: _CurrentEvent | None = None
        # The host calls that the event may still make. `None` while no event is handled: a test may call what it needs.
        self._host_calls_left: int | None = None
        # The connections that a handler has deleted and whose `$disconnect` has not run yet.
        self._deleted: deque[str] = deque()

    # ---- events ----

    def connect(self, connection: Connection, event: types.ConnectEvent) -> tuple[str, types.Response]:
        """Runs `$connect`. Returns the id of the connection, which is open only if the status of the response admits
        the peer."""
        id = self._next_id()
        self.connections[id] = connection
        self.rows[id] = set()
        try:
            response = self._handle(id, "$connect", types.Event_Connect(event))
            connection.is_open = 200 <= response.status_code <= 299
        finally:
            if not connection.is_open:
                del self.rows[id], self.connections[id]
            self._disconnect_deleted()
        return id, response

    def authorize(self, connection: Connection, event: types.ConnectEvent) -> authorizer.Decision:
        """Calls an authorizer for a peer whose connection is not open and has no row."""
        id = self._next_id()
        self.connections[id] = connection
        try:
            decision: authorizer.Decision = self._invoke(id, "$connect", types.Event_Connect(event), is_authorizer=True)
        finally:
            del self.connections[id]
            self._disconnect_deleted()
        if isinstance(decision, authorizer.Decision_Allow):
            _check_grant(decision.value)
        return decision

    def message(self, id: str, route_key: str, body: str | bytes) -> types.Response:
        connection = self.connections[id]
        if connection.closed:
            raise ConnectionClosed(f"the connection is closed, with {connection.closed[0]} {connection.closed[1]}")
        if size(body) > MESSAGE_BYTES_MAX:
            reason = f"a message has at most {MESSAGE_BYTES_MAX} bytes, a frame {FRAME_BYTES_MAX}"
            self.close(id, 1009, reason)
            raise ConnectionClosed(f"the connection is closed, with 1009 {reason}")
        connection.last_active_at = self.now_ms
        payload = types.Payload_Text(body) if isinstance(body, str) else types.Payload_Binary(body)
        event = types.Event_Message(types.MessageEvent(self._next_id(), payload))
        try:
            return self._handle(id, route_key, event)
        finally:
            self._disconnect_deleted()

    def close(self, id: str, code: int, reason: str) -> None:
        connection = self.connections[id]
        if connection.closed:
            return
        connection.is_open, connection.closed = False, (code, reason)
        try:
            self._disconnect(id)
        finally:
            self._disconnect_deleted()

    def _disconnect(self, id: str) -> None:
        """Runs `$disconnect` of a closed connection, then removes its row."""
        closed = self.connections[id].closed
        assert closed is not None, "only a closed connection is disconnected"
        try:
            self._handle(id, "$disconnect", types.Event_Disconnect(types.DisconnectEvent(*closed)))
        finally:
            del self.rows[id]

    def _disconnect_deleted(self) -> None:
        """Runs `$disconnect` of the connections that handlers have deleted: after the handler that deleted it, as on a
        server."""
        while self._deleted:
            try:
                self._disconnect(self._deleted.popleft())
            except (Exception, Trap) as error:
                self.failures.append(error)

    def _handle(self, id: str, route_key: str, event: types.Event) -> types.Response:
        response: types.Response = self._invoke(id, route_key, event, is_authorizer=False)
        _check_response(response)
        return response

    def _invoke(self, id: str, route_key: str, event: types.Event, *, is_authorizer: bool) -> Any:
        if self._current is not None:
            raise RuntimeError("a handler must not call the methods of a jackfield.testing.Peer")
        connection = self.connections[id]
        request = types.RequestContext(id, route_key, self._next_id(), self.now_ms, connection.connected_at)
        activate(self)
        self._current = _CurrentEvent(request, event, is_authorizer)
        self._host_calls_left = EVENT_HOST_CALLS
        try:
            return connection.handle(request, event, _result)
        finally:
            self._current = self._host_calls_left = None

    # ---- host functions ----

    def count_host_calls(self, calls: int) -> bool:
        """Counts host calls against the limit of the event. Returns False if the limit does not allow them."""
        left = self._host_calls_left
        if left is None:
            return True
        if calls > left:
            return False
        self._host_calls_left = left - calls
        return True

    def count_host_call(self) -> None:
        """Counts a call of a function that cannot return that the limit is exceeded."""
        if not self.count_host_calls(1):
            raise Trap(f"the event made more than {EVENT_HOST_CALLS} host calls")

    def connection_context(self) -> types.ConnectionContext:
        return self._context_of(self._event().request.connection_id)

    def event_json(self) -> str:
        current = self._event()
        connection = self._context_of(current.request.connection_id)
        if current.is_authorizer:
            return event_json.of_authorizer(current.request, connection, current.event)
        return event_json.of_handler(current.request, connection, current.event)

    def _event(self) -> _CurrentEvent:
        if self._current is None:
            raise RuntimeError("no event is being handled: only a handler can ask for the current connection")
        return self._current

    def _context_of(self, id: str) -> types.ConnectionContext:
        connection = self.connections[id]
        variables = sorted(self.stage_variables.items())
        return types.ConnectionContext(
            "test", "test", "localhost", connection.identity, list(connection.authorizer), variables
        )

    def open_connection(self, id: str) -> Connection:
        from .connections import ConnectionError

        connection = self.connections.get(id)
        if connection is None or not connection.is_open:
            raise Err(ConnectionError.GONE)
        return connection

    def post(self, id: str, data: str | bytes) -> None:
        connection = self.open_connection(id)
        if connection.post_error is not None:
            raise Err(connection.post_error)
        connection.last_active_at = self.now_ms
        connection.posts.append(data)

    def delete(self, id: str, code: int, reason: str) -> None:
        connection = self.open_connection(id)
        connection.is_open, connection.closed = False, (code, reason)
        self._deleted.append(id)

    def _next_id(self) -> str:
        """Returns a new id in the format of the real ones: fifteen characters and `=`."""
        self._ids_issued += 1
        return f"{self._ids_issued:015}="


_active: Double | None = None


def activate(double: Double) -> None:
    global _active
    _active = double


def current() -> Double:
    """The test double that was made last."""
    if _active is None:
        raise RuntimeError(
            "outside of a server the functions of jackfield need a test double of the host: create one with "
            "jackfield.testing.Host(); at the top level of a script they are not available"
        )
    return _active


def refuse_while_loading(what: str) -> None:
    """The engine refuses host functions at the top level of a script. Here `current` does."""


def _result(value: Any) -> Any:
    """What a function returned, or what the coroutine that it returned ends with."""
    if not inspect.iscoroutine(value):
        return value
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    # The test itself runs in an event loop, and an event loop cannot run in another one.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(_run, value).result()


def _run(value: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def _check_response(response: types.Response) -> None:
    """Raises the failure that the server logs for a response that it cannot use."""
    status = response.status_code
    if not 200 <= status <= 599:
        raise ValueError(f"the handler returned status {status}, expected 200 to 599")
    count = 0 if response.body is None else size(response.body.value)
    if count > MESSAGE_BYTES_MAX:
        raise ValueError(f"the handler returned a body of {count} bytes; a message has at most {MESSAGE_BYTES_MAX}")


def _check_grant(grant: authorizer.Grant) -> None:
    count = size("principalId") + size(grant.principal_id)
    count += sum(
        size(name) + size(value) for name, value in grant.context if name not in ("principalId", "usageIdentifierKey")
    )
    if count > GRANT_BYTES_MAX:
        raise ValueError(f"the authorizer granted {count} bytes; the maximum is {GRANT_BYTES_MAX}")
