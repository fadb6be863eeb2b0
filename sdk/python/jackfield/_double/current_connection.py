"""The connection whose event is being handled."""

from __future__ import annotations

from . import state, types


def context() -> types.ConnectionContext:
    double = state.current()
    double.count_host_call()
    return double.connection_context()


def event() -> str:
    double = state.current()
    double.count_host_call()
    return double.event_json()
