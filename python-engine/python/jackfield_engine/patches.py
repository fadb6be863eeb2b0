"""What of the standard library is different in a script: sockets, processes and threads are refused by name."""

import sys
import threading
import time

from . import importer, ssl
from .state import refuse_while_loading

_sleep = time.sleep


def _refusal(what: str):
    def refuse(*arguments, **keywords):
        raise OSError(f"{what} needs sockets, which a Python script does not have: {importer.ADVICE}")

    return refuse


def sleep(seconds: float, /) -> None:
    """Waits for this many seconds; the host serves other events meanwhile."""
    refuse_while_loading("waiting")
    _sleep(seconds)


def _start_thread(*arguments, **keywords):
    raise RuntimeError("a Python script has no threads: use asyncio, or call the function directly")


def install() -> None:
    sys.modules["ssl"] = ssl
    time.sleep = sleep
    threading._start_joinable_thread = threading._start_new_thread = _start_thread
    try:
        import _socket
        import socket
    except ImportError:
        return

    class Socket(socket.socket):
        """A socket cannot be created."""

        def __init__(self, *arguments, **keywords):
            _refusal("a socket")()

        def __del__(self):
            pass

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "socketpair",
                 "create_connection", "create_server", "fromfd"):  # fmt: skip
        if hasattr(socket, name):
            setattr(socket, name, _refusal(f"socket.{name}"))
        if hasattr(_socket, name):
            setattr(_socket, name, _refusal(f"socket.{name}"))
    socket.socket = socket.SocketType = Socket
    _socket.socket = Socket
