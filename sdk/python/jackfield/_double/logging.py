"""The log of the server."""

from __future__ import annotations

from enum import Enum

from . import state


class Level(Enum):
    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    CRITICAL = 5


def log(level: Level, message: str) -> None:
    state.current().logs.append((level.name.lower(), message.encode(errors="backslashreplace").decode()))
