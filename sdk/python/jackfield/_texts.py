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
