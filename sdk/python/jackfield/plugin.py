"""What a script makes with `plugin`, `routes` and `authorizer`, and what its functions return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Literal, TypeAlias, TypeVar, Union

    from .events import ConnectEvent, Context, DisconnectEvent, MessageEvent

    Event = TypeVar("Event")
    Returned: TypeAlias = Union[str, bytes, "Response", Mapping[str, Any], None]
    Function: TypeAlias = Callable[[Event, Context], Union[Returned, Awaitable[Returned]]]
    Decision: TypeAlias = Union["Allow", Literal["deny", "unauthorized", False]]
    Authorize: TypeAlias = Callable[[ConnectEvent, Context], Union[Decision, Awaitable[Decision]]]


@dataclass(frozen=True)
class Response:
    """On `$connect` a status from 200 to 299 admits the peer. On a message, the body goes to the peer if the route has
    a route response."""

    status_code: int = 200
    body: str | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Allow:
    """The peer may connect. Every later event of the connection has the values of `context`."""

    principal_id: str
    context: Mapping[str, str | int | float | bool] = field(default_factory=dict)


# The peer is known but not allowed to connect (403), or not known (401).
DENY: Literal["deny"] = "deny"
UNAUTHORIZED: Literal["unauthorized"] = "unauthorized"


class Plugin:
    """The functions of a plugin by the kind of the event."""

    def __init__(
        self,
        connect: Function[ConnectEvent] | None = None,
        message: Function[MessageEvent] | None = None,
        disconnect: Function[DisconnectEvent] | None = None,
    ):
        self.connect, self.message, self.disconnect = connect, message, disconnect

    def function(self, kind: str, route_key: str) -> Callable[..., Any] | None:
        found: Callable[..., Any] | None = getattr(self, kind)
        return found


class Routes:
    """The functions of a plugin by route key."""

    def __init__(self, functions: dict[str, Function[Any]]):
        self.functions = functions

    def function(self, kind: str, route_key: str) -> Callable[..., Any] | None:
        found = self.functions.get(route_key)
        return self.functions.get("$default") if found is None and kind == "message" else found


class Authorizer:
    def __init__(self, authorize: Authorize):
        self.authorize = authorize


def _check(name: str, functions: Mapping[str, object]) -> None:
    for key, value in functions.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name}: {key} is not a function but {type(value).__name__}")


def plugin(
    *,
    connect: Function[ConnectEvent] | None = None,
    message: Function[MessageEvent] | None = None,
    disconnect: Function[DisconnectEvent] | None = None,
) -> Plugin:
    """One function for each kind of event; all are optional. Each gets `(event, context)` and may be `async`."""
    _check("plugin", {"connect": connect, "message": message, "disconnect": disconnect})
    return Plugin(connect, message, disconnect)


def routes(functions: Mapping[str, Function[Any]]) -> Routes:
    """One function for each route key, `$connect`, `$disconnect` and `$default` included."""
    _check("routes", functions)
    return Routes(dict(functions))


def authorizer(authorize: Authorize) -> Authorizer:
    """The function that decides about an upgrade request: it returns `Allow(..)`, `DENY` or `UNAUTHORIZED`."""
    _check("authorizer", {"authorize": authorize})
    return Authorizer(authorize)
