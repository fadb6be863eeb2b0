"""The connection store: one row for each live connection, with attributes that are all indexed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._host import Err, refuse_while_loading
from ._host import connection_store as host
from ._texts import check_texts
from .errors import AccessDeniedError, JackfieldError, NoSuchConnectionError, TooLargeError, UnavailableError

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    connection_id: str
    connected_at: int
    # A name can be in the list several times.
    attributes: list[tuple[str, str]]

    def get(self, name: str, default: str | None = None) -> str | None:
        """Returns the first value of an attribute."""
        return next((value for one, value in self.attributes if one == name), default)

    def get_all(self, name: str) -> list[str]:
        return [value for one, value in self.attributes if one == name]


@dataclass(frozen=True)
class Page:
    rows: list[Row]
    # The cursor of the next page; `None` if this page is the last one.
    cursor: str | None


def _error(error: Err) -> JackfieldError:
    reason = error.value
    if isinstance(reason, host.StoreError_NoSuchConnection):
        return NoSuchConnectionError()
    if isinstance(reason, host.StoreError_TooLarge):
        return TooLargeError()
    if isinstance(reason, host.StoreError_AccessDenied):
        return AccessDeniedError()
    return UnavailableError(reason.value)


def _call(function: Callable[..., T], *arguments: object) -> T:
    refuse_while_loading("jackfield.store")
    try:
        return function(*arguments)
    except Err as error:
        raise _error(error) from None


def _check_cursor(cursor: str | None) -> None:
    if cursor is not None:
        check_texts(cursor=cursor)


def _row(row: host.Row) -> Row:
    return Row(row.connection_id, row.connected_at, row.attributes)


def _page(page: host.Page) -> Page:
    return Page([_row(row) for row in page.rows], page.cursor)


def get(connection_id: str) -> Row:
    """Returns the row of a connection."""
    check_texts(connection_id=connection_id)
    return _row(_call(host.get, connection_id))


def put(
    connection_id: str, attributes: Mapping[str, str | Iterable[str]] | Iterable[tuple[str, str]]
) -> None:
    """Replaces all attributes of the row."""
    check_texts(connection_id=connection_id)
    pairs = attributes.items() if isinstance(attributes, Mapping) else attributes
    flat = []
    for name, value in pairs:
        for one in [value] if value is None or isinstance(value, str) else value:
            check_texts(name=name, value=one)
            flat.append((name, one))
    _call(host.put, connection_id, flat)


def add(connection_id: str, name: str, value: str) -> None:
    """Adds one attribute. Nothing changes if the row has it already."""
    check_texts(connection_id=connection_id, name=name, value=value)
    _call(host.add, connection_id, name, value)


def remove(connection_id: str, name: str, value: str | None = None) -> None:
    """Removes one attribute, or every attribute of that name if there is no value."""
    check_texts(connection_id=connection_id, name=name)
    if value is not None:
        check_texts(value=value)
    _call(host.remove, connection_id, name, value)


def query(name: str, value: str, cursor: str | None = None) -> Page:
    """Returns one page of the rows that have this attribute."""
    check_texts(name=name, value=value)
    _check_cursor(cursor)
    return _page(_call(host.query, name, value, cursor))


def scan(cursor: str | None = None) -> Page:
    """Returns one page of all rows."""
    _check_cursor(cursor)
    return _page(_call(host.scan, cursor))


def rows(name: str | None = None, value: str | None = None) -> Iterator[Row]:
    """Iterates over the rows that have this attribute, or over all rows, page by page."""
    cursor = None
    while True:
        page = scan(cursor) if name is None else query(name, value or "", cursor)
        yield from page.rows
        cursor = page.cursor
        if cursor is None:
            return
