"""The values that the manifest gives the handler."""

from __future__ import annotations

from ._host import config as host
from ._host import refuse_while_loading
from ._texts import check_texts


def get(name: str, default: str | None = None) -> str | None:
    """Returns the value of the key `config` of the manifest, or `default` if it has none of this name."""
    refuse_while_loading("jackfield.config")
    check_texts(name=name)
    value = host.get(name)
    return default if value is None else value


def get_all() -> dict[str, str]:
    """Returns all values."""
    refuse_while_loading("jackfield.config")
    return dict(host.get_all())
