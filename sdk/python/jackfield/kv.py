"""Buckets of keys and values, which outlive connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ._host import Err, atomics, batch, refuse_while_loading
from ._host import keyvalue as host
from ._texts import check_texts
from .errors import KvError

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


def _bytes(value: str | bytes) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"a value of a bucket is a str or bytes, not {type(value).__name__}; use json.dumps for JSON")


def _keys(keys: Iterable[str]) -> list[str]:
    keys = list(keys)
    for key in keys:
        check_texts(key=key)
    return keys


class Bucket:
    """A bucket that the manifest grants. It is opened at its first use in an event."""

    def __init__(self, name: str):
        self.name = name

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        refuse_while_loading("jackfield.kv")
        check_texts(bucket=self.name)
        try:
            with host.open(self.name) as handle:
                return function(handle, *arguments)
        except Err as error:
            raise self._error(error.value) from None

    def _error(self, reason: host.Error) -> KvError:
        if isinstance(reason, host.Error_NoSuchStore):
            return KvError(f"no bucket {self.name!r} is granted to the handler", 404)
        if isinstance(reason, host.Error_AccessDenied):
            return KvError(f"the manifest does not grant the bucket {self.name!r} to the handler", 403)
        return KvError(f"the bucket {self.name!r} failed: {reason.value}", 503)

    def get(self, key: str) -> bytes | None:
        """Returns the value, or `None` if the key does not exist."""
        check_texts(key=key)
        return self._call(host.Bucket.get, key)

    def get_text(self, key: str) -> str | None:
        value = self.get(key)
        return None if value is None else value.decode()

    def set(self, key: str, value: str | bytes) -> None:
        """Writes the value. A key has at most 1,024 bytes, a value at most 400 KiB."""
        check_texts(key=key)
        self._call(host.Bucket.set, key, _bytes(value))

    def delete(self, key: str) -> None:
        """Removes the key. It is no error if it does not exist."""
        check_texts(key=key)
        self._call(host.Bucket.delete, key)

    def exists(self, key: str) -> bool:
        check_texts(key=key)
        return self._call(host.Bucket.exists, key)

    def list_keys(self, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Returns one page of keys, and the cursor of the next page."""
        if cursor is not None:
            check_texts(cursor=cursor)
        page = self._call(host.Bucket.list_keys, cursor)
        return page.keys, page.cursor

    def keys(self) -> Iterator[str]:
        """Iterates over all keys, page by page."""
        cursor = None
        while True:
            page, cursor = self.list_keys(cursor)
            yield from page
            if cursor is None:
                return

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to a number and returns the sum. A key that does not exist counts as 0."""
        check_texts(key=key)
        if not isinstance(delta, int) or not -(2**63) <= delta < 2**63:
            raise TypeError(f"delta is an int of 64 bits, not {delta!r:.40}")
        return self._call(atomics.increment, key, delta)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Returns the values of those keys that exist."""
        return dict(entry for entry in self._call(batch.get_many, _keys(keys)) if entry is not None)

    def set_many(self, values: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]) -> None:
        """Writes up to 256 values in their order, up to the first one for which the bucket has no space."""
        pairs = values.items() if isinstance(values, Mapping) else values
        entries = [(key, _bytes(value)) for key, value in pairs]
        _keys(key for key, _ in entries)
        self._call(batch.set_many, entries)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Removes up to 256 keys. The others are removed even if some do not exist."""
        self._call(batch.delete_many, _keys(keys))

    def update(self, key: str, change: Callable[[bytes | None], str | bytes | None]) -> bytes | None:
        """Writes what `change` returns for the current value, again if another event has changed it meanwhile.

        Returns what was written; `None`, and nothing is written, if `change` returns `None`.
        """
        check_texts(key=key)
        return self._call(self._update, key, change)

    @staticmethod
    def _update(
        handle: host.Bucket, key: str, change: Callable[[bytes | None], str | bytes | None]
    ) -> bytes | None:
        cas = atomics.Cas.new(handle, key)
        while True:
            value = change(cas.current())
            if value is None:
                return None
            value = _bytes(value)
            try:
                atomics.swap(cas, value)
                return value
            except Err as error:
                if isinstance(error.value, atomics.CasError_CasFailed):
                    cas = error.value.value
                    continue
                raise Err(error.value.value) from None


def bucket(name: str) -> Bucket:
    """A bucket by its name in the key `buckets` of the manifest. It is not opened yet."""
    return Bucket(name)
