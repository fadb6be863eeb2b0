"""The connection store."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

from . import state
from .limits import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTE_VALUE_BYTES_MAX,
    PAGE_BYTES,
    PAGE_ITEMS,
    ROW_ATTRIBUTES_MAX,
    check_parameters,
    pairs_bytes,
    size,
)
from .types import Err

_CONNECTION_ID = re.compile("[A-Za-z0-9_-]{15}=")


@dataclass
class StoreError_NoSuchConnection:
    pass


@dataclass
class StoreError_TooLarge:
    pass


@dataclass
class StoreError_AccessDenied:
    pass


@dataclass
class StoreError_Unavailable:
    value: str


StoreError = Union[StoreError_NoSuchConnection, StoreError_TooLarge, StoreError_AccessDenied, StoreError_Unavailable]


@dataclass
class Row:
    connection_id: str
    connected_at: int
    attributes: list[tuple[str, str]]


@dataclass
class Page:
    rows: list[Row]
    cursor: str | None


def get(id: str) -> Row:
    double = _begin_call(size(id))
    return _row(double, id, _attributes(double, id))


def put(id: str, attributes: list[tuple[str, str]]) -> None:
    double = _begin_call(size(id) + pairs_bytes(attributes))
    _change(double, id, lambda row: set(attributes))


def add(id: str, name: str, value: str) -> None:
    double = _begin_call(size(id) + size(name) + size(value))
    _change(double, id, lambda row: row | {(name, value)})


def remove(id: str, name: str, value: str | None) -> None:
    double = _begin_call(size(id) + size(name) + size(value or ""))
    _change(double, id, lambda row: {pair for pair in row if pair[0] != name or value not in (None, pair[1])})


def query(name: str, value: str, cursor: str | None) -> Page:
    double = _begin_call(size(name) + size(value) + size(cursor or ""))
    return _page(double, cursor, lambda attributes: (name, value) in attributes)


def scan(cursor: str | None) -> Page:
    double = _begin_call(size(cursor or ""))
    return _page(double, cursor, lambda attributes: True)


def _begin_call(parameter_bytes: int) -> state.Double:
    check_parameters(parameter_bytes)
    double = state.current()
    double.count_host_call()
    return double


def _attributes(double: state.Double, id: str) -> state.Attributes:
    if id not in double.rows:
        raise Err(StoreError_NoSuchConnection())
    return double.rows[id]


def _change(double: state.Double, id: str, change: Callable[[state.Attributes], state.Attributes]) -> None:
    changed = change(_attributes(double, id))
    fits = all(
        size(name) <= ATTRIBUTE_NAME_BYTES_MAX and size(value) <= ATTRIBUTE_VALUE_BYTES_MAX for name, value in changed
    )
    if len(changed) > ROW_ATTRIBUTES_MAX or not fits:
        raise Err(StoreError_TooLarge())
    double.rows[id] = changed


def _page(double: state.Double, cursor: str | None, matches: Callable[[state.Attributes], bool]) -> Page:
    if cursor is not None and not _CONNECTION_ID.fullmatch(cursor):
        raise Err(StoreError_Unavailable("the cursor is none that a page has given"))
    rows: list[Row] = []
    count = 0
    for id, attributes in sorted(double.rows.items()):
        if (cursor is not None and id <= cursor) or not matches(attributes):
            continue
        if len(rows) == PAGE_ITEMS or count >= PAGE_BYTES:
            return Page(rows, rows[-1].connection_id)
        count += sum(size(name) + size(value) for name, value in attributes)
        rows.append(_row(double, id, attributes))
    return Page(rows, None)


def _row(double: state.Double, id: str, attributes: state.Attributes) -> Row:
    # By their bytes, as the host sorts them.
    ordered = sorted(attributes, key=lambda pair: (pair[0].encode(), pair[1].encode()))
    return Row(id, double.connections[id].connected_at, ordered)
