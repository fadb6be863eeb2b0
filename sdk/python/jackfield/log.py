"""Lines in the log of the server. `print` and the module `logging` write there, too."""

from ._host import Level, log


def trace(message: object) -> None:
    log(Level.TRACE, str(message))


def debug(message: object) -> None:
    log(Level.DEBUG, str(message))


def info(message: object) -> None:
    log(Level.INFO, str(message))


def warn(message: object) -> None:
    log(Level.WARN, str(message))


warning = warn


def error(message: object) -> None:
    log(Level.ERROR, str(message))


def critical(message: object) -> None:
    log(Level.CRITICAL, str(message))
