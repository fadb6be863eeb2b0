"""Values of cases, and the short forms that they are written in."""

# What every reply begins with, so that a runner can distinguish it from what was posted.
REPLY_PREFIX = "reply "
# Longest text in a result; a longer one is replaced by its length, so that every result fits into one message.
TEXT_BYTES_MAX = 256


def expand(value):
    """Writes out `{"repeat": TEXT, "times": N}` and `{"list": ITEM, "times": N}`, wherever they are in a value."""
    if isinstance(value, list):
        return [expand(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "times" in value and isinstance(value.get("repeat"), str):
        return value["repeat"] * value["times"]
    if "times" in value and "list" in value:
        digits = len(str(max(value["times"] - 1, 0)))
        return [expand(numbered(value["list"], f"{number:0{digits}}")) for number in range(value["times"])]
    return {name: expand(field) for name, field in value.items()}


def numbered(value, number: str):
    return map_texts(value, lambda text: text.replace("{n}", number))


def map_texts(value, change):
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [map_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {name: map_texts(field, change) for name, field in value.items()}
    return value


def shortened(value):
    """Replaces each long text by `{"length": BYTES}`."""
    if isinstance(value, str):
        length = len(value.encode(errors="surrogatepass"))
        return {"length": length} if length > TEXT_BYTES_MAX else value
    if isinstance(value, (list, tuple)):
        return [shortened(item) for item in value]
    if isinstance(value, dict):
        return {name: shortened(field) for name, field in value.items()}
    return value


def from_bytes(value: bytes):
    """Bytes as they are in a result: a text if they are UTF-8, else `{"hex": DIGITS}`."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"length": len(value)} if len(value) > TEXT_BYTES_MAX else {"hex": value.hex()}


def to_bytes(value) -> bytes:
    """Bytes as a case has them: a text, or `{"hex": DIGITS}`."""
    return value.encode() if isinstance(value, str) else bytes.fromhex(value["hex"])
