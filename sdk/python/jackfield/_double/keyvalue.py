"""Buckets of keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from . import state
from .limits import KEY_BYTES_MAX, PAGE_ITEMS, VALUE_BYTES_MAX, check_parameters, size
from .types import Err


@dataclass
class Error_NoSuchStore:
    pass


@dataclass
class Error_AccessDenied:
    pass


@dataclass
class Error_Other:
    value: str


Error = Union[Error_NoSuchStore, Error_AccessDenied, Error_Other]


@dataclass
class KeyResponse:
    keys: list[str]
    cursor: str | None


class Bucket:
    def __init__(self, name: str, content: state.BucketContent):
        self._name = name
        self._content = content

    def __enter__(self) -> Bucket:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def get(self, key: str) -> bytes | None:
        begin_call(size(key))
        check_key(key)
        return self.read(key)

    def set(self, key: str, value: bytes) -> None:
        begin_call(size(key) + size(value))
        check_key(key)
        check_value(value)
        self.write(key, value)

    def delete(self, key: str) -> None:
        begin_call(size(key))
        check_key(key)
        self.remove(key)

    def exists(self, key: str) -> bool:
        return self.get(key) is not None

    def list_keys(self, cursor: str | None) -> KeyResponse:
        begin_call(size(cursor or ""))
        # By their bytes, as the host sorts them.
        keys = sorted(self._content.pairs, key=str.encode)
        if cursor is not None:
            keys = [key for key in keys if key.encode() > cursor.encode()]
        page = keys[:PAGE_ITEMS]
        return KeyResponse(page, page[-1] if len(keys) > PAGE_ITEMS else None)

    def read(self, key: str) -> bytes | None:
        return self._content.pairs.get(key)

    def remove(self, key: str) -> None:
        self._content.pairs.pop(key, None)

    def write(self, key: str, value: bytes) -> None:
        """Writes a value, if the bucket has space for it. A write that adds neither keys nor bytes always fits."""
        pairs = self._content.pairs
        before = sum(size(key) + size(value) for key, value in pairs.items())
        replaced = size(key) + size(pairs[key]) if key in pairs else 0
        after = before - replaced + size(key) + size(value)
        has_too_many_keys = key not in pairs and len(pairs) + 1 > self._content.keys_max
        if has_too_many_keys or (after > self._content.bytes_max and after > before):
            raise Err(Error_Other(f'the bucket "{self._name}" is full'))
        pairs[key] = value


def open(identifier: str) -> Bucket:
    begin_call(size(identifier))
    buckets = state.current().buckets
    if not buckets:
        raise Err(Error_AccessDenied())
    if identifier not in buckets:
        raise Err(Error_NoSuchStore())
    return Bucket(identifier, buckets[identifier])


def begin_call(parameter_bytes: int) -> None:
    check_parameters(parameter_bytes)
    state.current().count_host_call()


def check_key(key: str) -> None:
    if size(key) > KEY_BYTES_MAX:
        raise Err(Error_Other(f"a key has at most {KEY_BYTES_MAX} bytes"))


def check_value(value: bytes) -> None:
    if len(value) > VALUE_BYTES_MAX:
        raise Err(Error_Other(f"a value has at most {VALUE_BYTES_MAX} bytes"))
