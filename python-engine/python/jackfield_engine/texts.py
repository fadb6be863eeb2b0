"""Texts for the log."""


def printable(text: str) -> str:
    """Returns the text with an escape such as `\\ud83d` for half of a surrogate pair, which cannot be passed to the host."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
