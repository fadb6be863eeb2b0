"""Lines in the log of the server. `print` and the module `logging` write there, too."""

from jackfield_engine import output
from wit_world.imports.logging import Level


def debug(message: object) -> None:
    output.log(Level.DEBUG, str(message))


def info(message: object) -> None:
    output.log(Level.INFO, str(message))


def warn(message: object) -> None:
    output.log(Level.WARN, str(message))


warning = warn


def error(message: object) -> None:
    output.log(Level.ERROR, str(message))
