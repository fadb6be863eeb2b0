"""The limits of the host."""

MESSAGE_BYTES_MAX = 128 * 1024
CLOSE_REASON_BYTES_MAX = 123
ROW_ATTRIBUTES_MAX = 64
ATTRIBUTE_NAME_BYTES_MAX = 64
ATTRIBUTE_VALUE_BYTES_MAX = 1024
KEY_BYTES_MAX = 1024
VALUE_BYTES_MAX = 400 * 1024
PAGE_ITEMS = 256
# A page of rows ends when its attributes have this many bytes.
PAGE_BYTES = VALUE_BYTES_MAX
BATCH_KEYS_MAX = 256
# Bytes of all parameters of one call, and of all values that one call returns.
CALL_BYTES_MAX = 2 * 1024 * 1024
# What a string or a list within a list counts in addition to its bytes.
ELEMENT_BYTES = 24
BUCKET_BYTES_MAX = 64 * 1024 * 1024
BUCKET_KEYS_MAX = 100_000
# Connections that `post_to_matching` reaches for each host call that it counts as.
TURN_POSTS = 64
# Calls of one event that send or store something.
EVENT_HOST_CALLS = 10_000
# Names and values that an authorizer grants, with the principal id.
GRANT_BYTES_MAX = 8 * 1024
FRAME_BYTES_MAX = 32 * 1024


class Trap(BaseException):
    """The handler did what ends its event in a component, whatever the handler would catch there."""


def size(text: str | bytes) -> int:
    """The bytes of a text or of bytes."""
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())


def check_parameters(count: int) -> None:
    """Raises `Trap` if the parameters of a call have more bytes than one call may have."""
    if count > CALL_BYTES_MAX:
        raise Trap(f"the parameters of the call have {count} bytes, and those of one call have at most {CALL_BYTES_MAX}")


def texts_bytes(texts: list[str]) -> int:
    return sum(size(text) + ELEMENT_BYTES for text in texts)


def pairs_bytes(pairs: list[tuple[str, str]] | list[tuple[str, bytes]]) -> int:
    return sum(size(name) + size(value) + 2 * ELEMENT_BYTES for name, value in pairs)
