"""The types of the contract, as the bindings of a component have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union


class Err(Exception):
    """The error of a host function; `value` is the one of the contract."""

    def __init__(self, value: Any):
        super().__init__(value)
        self.value = value


@dataclass
class Payload_Text:
    value: str


@dataclass
class Payload_Binary:
    value: bytes


Payload = Union[Payload_Text, Payload_Binary]


@dataclass
class Identity:
    source_ip: str
    user_agent: str | None


@dataclass
class RequestContext:
    connection_id: str
    route_key: str
    request_id: str
    request_time: int
    connected_at: int


@dataclass
class ConnectionContext:
    api_id: str
    stage: str
    domain_name: str
    identity: Identity
    authorizer: list[tuple[str, str]]
    stage_variables: list[tuple[str, str]]


@dataclass
class ConnectEvent:
    headers: list[tuple[str, str]]
    query_string: list[tuple[str, str]]


@dataclass
class MessageEvent:
    message_id: str
    body: Payload


@dataclass
class DisconnectEvent:
    status_code: int
    reason: str


@dataclass
class Event_Connect:
    value: ConnectEvent


@dataclass
class Event_Message:
    value: MessageEvent


@dataclass
class Event_Disconnect:
    value: DisconnectEvent


Event = Union[Event_Connect, Event_Message, Event_Disconnect]


@dataclass
class Response:
    status_code: int
    headers: list[tuple[str, str]]
    body: Payload | None
