"""Sends each message back."""

import json

from jackfield import Context, MessageEvent, plugin


def message(event: MessageEvent, context: Context) -> str | bytes:
    content = echo_content(event.body)
    return event.body if content is None else content


def echo_content(body: str | bytes) -> str | None:
    """Returns the content, if the message is an echo request."""
    if not isinstance(body, str):
        return None
    try:
        request = json.loads(body)
    except ValueError:
        return None
    if not isinstance(request, dict) or request.get("action") != "echo":
        return None
    content = request.get("content")
    return content if isinstance(content, str) else None


handler = plugin(message=message)
