"""Operations of a bucket that no other write can come between."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

from .keyvalue import Bucket, Error, Error_Other, begin_call, check_key, check_value
from .limits import size
from .types import Err

_NUMBER = re.compile(rb"[+-]?[0-9]+")
_MIN, _MAX = -(1 << 63), (1 << 63) - 1


class Cas:
    """The value of a key that was read last, which `swap` expects."""

    def __init__(self, bucket: Bucket, key: str, seen: bytes | None):
        self.bucket = bucket
        self.key = key
        self.seen = seen

    @classmethod
    def new(cls, bucket: Bucket, key: str) -> Cas:
        return cls(bucket, key, bucket.get(key))

    def current(self) -> bytes | None:
        begin_call(0)
        self.seen = self.bucket.read(self.key)
        return self.seen

    def __enter__(self) -> Cas:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@dataclass
class CasError_StoreError:
    value: Error


@dataclass
class CasError_CasFailed:
    value: Cas


CasError = Union[CasError_StoreError, CasError_CasFailed]


def swap(cas: Cas, value: bytes) -> None:
    begin_call(size(value))
    try:
        check_value(value)
        now = cas.bucket.read(cas.key)
        if now == cas.seen:
            cas.bucket.write(cas.key, value)
            return
    except Err as error:
        raise Err(CasError_StoreError(error.value)) from None
    raise Err(CasError_CasFailed(Cas(cas.bucket, cas.key, now)))


def increment(bucket: Bucket, key: str, delta: int) -> int:
    begin_call(size(key))
    check_key(key)
    value = bucket.read(key)
    now = 0
    if value is not None:
        if not _NUMBER.fullmatch(value) or not _MIN <= int(value) <= _MAX:
            raise Err(Error_Other(f"the value of {key} is not a decimal number"))
        now = int(value)
    total = now + delta
    if not _MIN <= total <= _MAX:
        raise Err(Error_Other(f"{now} and {delta} are more than a number can be"))
    bucket.write(key, str(total).encode())
    return total
