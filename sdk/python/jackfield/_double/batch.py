"""Operations on several keys in one call."""

from __future__ import annotations

from collections.abc import Iterable

from .keyvalue import Bucket, Error_Other, begin_call, check_key, check_value
from .limits import BATCH_KEYS_MAX, CALL_BYTES_MAX, pairs_bytes, texts_bytes
from .types import Err


def get_many(bucket: Bucket, keys: list[str]) -> list[tuple[str, bytes] | None]:
    begin_call(texts_bytes(keys))
    _check_keys(keys)
    values = [bucket.read(key) for key in keys]
    count = sum(len(value) for value in values if value is not None)
    if count > CALL_BYTES_MAX:
        raise Err(Error_Other(f"{count} bytes of values in one call: at most {CALL_BYTES_MAX}"))
    return [None if value is None else (key, value) for key, value in zip(keys, values)]


def set_many(bucket: Bucket, key_values: list[tuple[str, bytes]]) -> None:
    begin_call(pairs_bytes(key_values))
    _check_keys(key for key, _ in key_values)
    for _, value in key_values:
        check_value(value)
    for key, value in key_values:
        bucket.write(key, value)


def delete_many(bucket: Bucket, keys: list[str]) -> None:
    begin_call(texts_bytes(keys))
    _check_keys(keys)
    for key in keys:
        bucket.remove(key)


def _check_keys(keys: Iterable[str]) -> None:
    """Checks all keys before the first one is used, so that a batch with a bad key changes nothing."""
    keys = list(keys)
    if len(keys) > BATCH_KEYS_MAX:
        raise Err(Error_Other(f"{len(keys)} keys in one call: at most {BATCH_KEYS_MAX}"))
    for key in keys:
        check_key(key)
