"""Loads a script: its files become modules, its top level runs, and its handler is found."""

import gc
import json
import os
import sys
import types
from collections.abc import Callable

from jackfield.plugin import Authorizer, Plugin, Routes
from wit_world.imports import image

from . import compaction, failure, importer, output, patches
from .state import state

# Free blocks that may be filled: those that the base image has, and those that a load leaves behind.
_BASE_BLOCKS = 200_000
_LOAD_BLOCKS = 20_000
# The timeout of an integration if the request has none: that of API Gateway.
_TIMEOUT_MS = 29_000


class Script:
    def __init__(self, handler, is_lambda: bool):
        self.handler = handler
        self.is_lambda = is_lambda


script: Script | None = None
# Runs the engine's part of an event. Set by `warming`.
warm: Callable[[], None] = lambda: None


class BadScript(Exception):
    """The script was loaded, but has no handler. The text says what to do; there is no stack."""


def prepare() -> None:
    """Runs once, when the base image is built."""
    output.install()
    patches.install()


def initialize() -> str:
    """Runs once in each process of the host."""
    gc.unfreeze()
    # The first one leaves free blocks where its own lists were.
    for _ in range(2):
        compaction.settle(_BASE_BLOCKS)
    return "{}"


def load(text: str) -> str:
    global script
    request = json.loads(text)
    try:
        image.set_clock(int(request.get("time", 0)) * 1_000_000)
        os.environ.clear()
        os.environ.update(request["env"])
        state.name, state.world = request["name"], request["world"]
        state.timeout_ms = request.get("timeout_ms", _TIMEOUT_MS)
        warnings = importer.add(
            request["files"], request.get("data", {}), request.get("native", ()), request["main"]
        )
        sys.argv[:] = [state.name]
        module = importer.run_main(request["main"])
        script = _script(module, request.get("handler"))
        exports = _exported(module)
    except BaseException as error:
        message, stack = (str(error), "") if isinstance(error, BadScript) else failure.describe(error)
        output.finish()
        return json.dumps({"error": {"message": message, "stack": stack or None}, "log": _log()})
    output.finish()
    result = json.dumps({"exports": exports, "warnings": warnings, "log": _log()})
    compaction.settle(_LOAD_BLOCKS)
    warm()
    return result


def _log() -> list[dict]:
    lines = [{"level": level, "message": message} for level, message in output.lines]
    output.lines.clear()
    return lines


def _exported(module: types.ModuleType) -> list[str]:
    """The names of the module's own functions and plugins."""
    own = (Plugin, Routes, Authorizer)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, own) or (callable(value) and getattr(value, "__module__", None) == module.__name__))
    ]


def _script(module: types.ModuleType, wanted: str | None) -> Script:
    # Lambda's way to write it: `module.function`.
    name = wanted.rpartition(".")[2] if wanted else None
    names = [name] if name else ["handler", "lambda_handler"]
    found = next((getattr(module, one) for one in names if hasattr(module, one)), None)
    if found is None and name is None:
        made = [value for value in vars(module).values() if isinstance(value, Plugin | Routes | Authorizer)]
        if len(made) == 1:
            [found] = made
    if found is None:
        exported = _exported(module)
        has = f"it has {', '.join(exported)}" if exported else "it has no function"
        hint = "name one with the key handler of the manifest" if exported else "define handler(event, context)"
        raise BadScript(f"{state.name} has no {names[0]!r}; {has}; {hint}")
    is_authorizer = state.world == "request-authorizer"
    if isinstance(found, Authorizer) and not is_authorizer:
        raise BadScript(f"{names[0]!r} of {state.name} is an authorizer, but the manifest uses it as a route handler")
    if isinstance(found, Plugin | Routes) and is_authorizer:
        raise BadScript(f"{names[0]!r} of {state.name} is a plugin, but the manifest uses it as an authorizer")
    if isinstance(found, Plugin | Routes | Authorizer):
        return Script(found, is_lambda=False)
    if not isinstance(found, Callable):
        raise BadScript(f"{names[0]!r} of {state.name} is no function but {type(found).__name__}")
    return Script(found, is_lambda=True)
