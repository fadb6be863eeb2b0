"""The values that the manifest gives the handler."""

from jackfield_engine.state import refuse_while_loading
from wit_world.imports import wasi_config_store as host


def get(name: str, default: str | None = None) -> str | None:
    refuse_while_loading("jackfield.config")
    value = host.get(name)
    return default if value is None else value


def get_all() -> dict[str, str]:
    refuse_while_loading("jackfield.config")
    return dict(host.get_all())
