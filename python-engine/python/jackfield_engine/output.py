"""What a script prints and logs: lines of the log in an event, lines of the result in the load."""

import io
import logging
import sys

from wit_world.imports import logging as host
from wit_world.imports.logging import Level

from .state import state
from .texts import printable

# What the top level has logged: a level from 0, which is trace, to 4, which is error, and the line.
lines: list[tuple[int, str]] = []
_LINES_MAX = 100


def log(level: Level, message: str) -> None:
    if not state.loading:
        host.log(level, "", printable(message))
    elif len(lines) < _LINES_MAX:
        lines.append((min(level.value, Level.ERROR.value), message))


class Output(io.TextIOBase):
    """`sys.stdout` and `sys.stderr`: each line that is printed is one of the log."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str, level: Level):
        self.name = name
        self._level = level
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "\n" in text:
            *whole, self._rest = (self._rest + text).split("\n")
            for line in whole:
                log(self._level, line)
        else:
            self._rest += text
        return len(text)

    def flush(self) -> None:
        # `print(.., end="", flush=True)` continues the line.
        pass

    def finish(self) -> None:
        """Logs what was printed without a newline at its end."""
        if self._rest:
            rest, self._rest = self._rest, ""
            log(self._level, rest)


class _Handler(logging.Handler):
    """The root handler of `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        name = "" if record.name == "root" else f"{record.name}: "
        log(_level(record.levelno), name + text)


def _level(number: int) -> Level:
    if number >= logging.CRITICAL:
        return Level.CRITICAL
    if number >= logging.ERROR:
        return Level.ERROR
    if number >= logging.WARNING:
        return Level.WARN
    return Level.INFO if number >= logging.INFO else Level.DEBUG


stdout = Output("<stdout>", Level.INFO)
stderr = Output("<stderr>", Level.WARN)


def install() -> None:
    sys.stdout = sys.__stdout__ = stdout
    sys.stderr = sys.__stderr__ = stderr
    logging.root.addHandler(_Handler())
    logging.root.setLevel(logging.INFO)


def finish() -> None:
    stdout.finish()
    stderr.finish()
