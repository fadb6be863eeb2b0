"""Half of a surrogate pair, as `json.loads` makes it of `"\\ud83d"`, is a text in Python but not for the host: the call would
end the event, whatever the handler catches."""


def check(value: object) -> None:
    """Raises `UnicodeEncodeError` if a text, or one in a list or tuple, cannot be passed to the host."""
    if isinstance(value, str):
        if not value.isascii():
            value.encode()
    elif isinstance(value, (list, tuple)):
        for item in value:
            check(item)


def check_texts(**arguments: object) -> None:
    """Raises a `TypeError` that names the argument which is not a `str`, as the host has no other type for it.

    Without it, the conversion for the host ends the event, and the log has no line of the script.
    """
    for name, value in arguments.items():
        if not isinstance(value, str):
            raise TypeError(f"{name.rstrip('_')} is a str, not {type(value).__name__}")
        check(value)
