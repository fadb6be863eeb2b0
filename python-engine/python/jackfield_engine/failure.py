"""How an exception becomes the failure of an event: one line for people, and the traceback one frame a line."""

import sys
import traceback

from .texts import printable

_FRAMES_MAX = 20
# Code of the engine and of the standard library is not shown.
_OWN = ("/python/", "/0/", "/1/", "/2/", "<frozen")


def describe(error: BaseException) -> tuple[str, str]:
    """Returns the message and the stack."""
    return printable(message(error)), printable(stack(error))


def message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"SystemExit: the handler called exit with {error.code!r}"
    try:
        text = str(error)
    except Exception:
        text = "its text cannot be formatted"
    name = type(error).__qualname__
    module = type(error).__module__
    if module not in ("builtins", "__main__"):
        name = f"{module}.{name}"
    if isinstance(error, SyntaxError) and error.filename:
        text = f"{error.msg} ({error.filename}, line {error.lineno})"
    return " ".join(f"{name}: {text}".split()) if text else name


def stack(error: BaseException) -> str:
    lines: list[str] = []
    if isinstance(error, SyntaxError) and error.text:
        lines += _syntax(error)
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < 8:
        seen.add(id(current))
        if current is not error:
            lines.append(f"caused by {message(current)}")
        lines += _frames(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(lines)


def _syntax(error: SyntaxError) -> list[str]:
    text = (error.text or "").rstrip("\n")
    code = text.lstrip()
    column = max((error.offset or 1) - 1 - (len(text) - len(code)), 0)
    width = 1
    if error.end_lineno == error.lineno and error.end_offset and error.offset and error.end_offset > error.offset:
        width = error.end_offset - error.offset
    return [f'File "{error.filename}", line {error.lineno}', f"  {code}", f"  {' ' * column}{'^' * width}"]


def _frames(error: BaseException) -> list[str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OWN)]
    waiting = getattr(error, "frames", ())
    frames += [traceback.FrameSummary(*frame) for frame in waiting if not frame[0].startswith(_OWN)]
    # A recursion has a thousand frames; the first and the last ones explain it.
    if len(frames) > _FRAMES_MAX:
        first, last = frames[: _FRAMES_MAX // 2], frames[-_FRAMES_MAX // 2 :]
        left_out = len(frames) - len(first) - len(last)
        return [*map(_frame, first), f"({left_out} frames)", *map(_frame, last)]
    return [_frame(frame) for frame in frames]


def _frame(frame: traceback.FrameSummary) -> str:
    code = f": {frame.line}" if frame.line else ""
    return f'File "{frame.filename}", line {frame.lineno}, in {frame.name}{code}'


def current() -> tuple[str, str]:
    error = sys.exception()
    assert error is not None
    return describe(error)
