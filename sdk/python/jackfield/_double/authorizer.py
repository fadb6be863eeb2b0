"""What an authorizer decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass
class Grant:
    principal_id: str
    context: list[tuple[str, str]]


@dataclass
class Decision_Allow:
    value: Grant


@dataclass
class Decision_Deny:
    pass


@dataclass
class Decision_Unauthorized:
    pass


Decision = Union[Decision_Allow, Decision_Deny, Decision_Unauthorized]
