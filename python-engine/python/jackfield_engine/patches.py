"""What of the standard library is different in a script: sockets, files, time and threads."""

import sys
import threading
import time

from . import file_system, processes, sockets, ssl
from .state import refuse_while_loading

_sleep = time.sleep


def sleep(seconds: float, /) -> None:
    """Waits for this many seconds; the host serves other events meanwhile."""
    refuse_while_loading("waiting")
    _sleep(seconds)


def _start_thread(*arguments, **keywords):
    raise RuntimeError("a Python script has no threads: use asyncio, or call the function directly")


def install() -> None:
    sys.modules["ssl"] = ssl
    sys.modules["multiprocessing"] = sys.modules["multiprocessing.managers"] = processes
    time.sleep = sleep
    threading._start_joinable_thread = threading._start_new_thread = _start_thread
    sockets.install()
    file_system.install()
    # With `ssl` in its place, these have HTTPS.
    import http.client
    import urllib.request  # noqa: F401
