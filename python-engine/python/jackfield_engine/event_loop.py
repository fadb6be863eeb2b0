"""An event loop without sockets: it waits only for time.

`asyncio` makes its loops with a pair of sockets, to be woken by other threads. There are neither here, so the loop
waits by sleeping until the next timer, and a loop without a timer would wait for ever, which is an error.
"""

import asyncio
import asyncio.base_events
import asyncio.events
import time

from .state import refuse_while_loading


class NothingLeft(RuntimeError):
    """The handler waits for something that never happens."""

    # Where it waits: file, line and function, outermost first.
    frames: list[tuple[str, int, str]] = []


class _Selector:
    """What `BaseEventLoop` asks for events."""

    @staticmethod
    def select(timeout):
        if timeout is None:
            raise NothingLeft("the handler waits for something that never happens: no task and no timer is left")
        if timeout > 0:
            refuse_while_loading("waiting")
            time.sleep(timeout)
        return ()


class EventLoop(asyncio.base_events.BaseEventLoop):
    def __init__(self):
        super().__init__()
        self._selector = _Selector

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass

    def run_in_executor(self, executor, func, *args):
        """There are no threads: the function runs now."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout=None):
        pass

    async def create_connection(self, *arguments, **keywords):
        raise OSError(
            "an asynchronous client needs sockets, which a Python script does not have: use a client that blocks, such "
            "as urllib.request or requests, with asyncio.to_thread"
        )

    create_server = create_datagram_endpoint = create_unix_connection = create_connection
    sock_connect = sock_recv = sock_sendall = create_connection


class _Policy(asyncio.events._BaseDefaultEventLoopPolicy):
    _loop_factory = EventLoop


def install() -> EventLoop:
    """Makes this loop the one of `asyncio`, and returns the loop of the handlers."""
    asyncio.events._event_loop_policy = _Policy()
    return EventLoop()


def run(loop: EventLoop, coroutine):
    """Runs a coroutine to its end. Returns its result, and how many tasks were left, which are cancelled."""
    asyncio.events._set_running_loop(None)
    task = loop.create_task(coroutine)
    try:
        result = loop.run_until_complete(task)
    except NothingLeft as error:
        error.frames = _waiting_frames(task)
        raise
    finally:
        left = [other for other in asyncio.all_tasks(loop) if not other.done()] if loop._ready or loop._scheduled else ()
        for other in left:
            other.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    return result, len(left)


def _waiting_frames(task) -> list[tuple[str, int, str]]:
    frames = []
    coroutine = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        coroutine = coroutine.cr_await
    return frames
