"""What the engine knows about the script that is loaded."""


class State:
    """One per image. Its attributes are set by the load and by the first event of an instance."""

    # True until the first event: the image is shared by all events, so nothing of one event may get into it.
    loading = True
    name = ""
    world = ""
    # How long an event may take, in milliseconds.
    timeout_ms: float = 29_000


state = State()


def refuse_while_loading(what: str) -> None:
    """Raises an exception at the top level of a script, which runs once for all events."""
    if state.loading:
        raise RuntimeError(
            f"{what} is not available at the top level of the script, which runs once for all events: "
            "move it into the handler"
        )
