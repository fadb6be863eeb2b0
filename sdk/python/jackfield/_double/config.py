"""The values that the manifest gives the handler."""

from __future__ import annotations

from . import state


def get(key: str) -> str | None:
    return state.current().config.get(key)


def get_all() -> list[tuple[str, str]]:
    return list(state.current().config.items())
