"""Random numbers differ in each event.

The generator of `random` is seeded with a fixed value in the load and from the host in the first event of each
instance. Secure randomness is refused in the load: a key that is made there would be the same in each event.
"""

import _random
import os

from .state import refuse_while_loading

_urandom = os.urandom
_generator_seed = _random.Random.seed


def urandom(size: int, /) -> bytes:
    """Returns a bytes object of random bytes from the host."""
    refuse_while_loading("secure randomness (os.urandom, secrets, uuid4)")
    return _urandom(size)


os.urandom = urandom


def install() -> None:
    """Replaces references that modules have taken."""
    import random
    import uuid

    random._urandom = urandom
    if hasattr(uuid, "_generate_time_safe"):
        uuid._generate_time_safe = None
    random.seed(0)


def seed() -> None:
    """Seeds the generator from the host."""
    import random

    # The generator itself: `random.seed` would hash the bytes first, in Python.
    generator = random._inst
    _generator_seed(generator, int.from_bytes(_urandom(32)))
    generator.gauss_next = None
