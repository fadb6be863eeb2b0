"""What makes the first event of an instance cheap: an event that writes few pages of the image.

A page of the image that is written is copied first, and given back after the event. Four things spread the writes of
an event over the memory: free blocks between the objects of the image, where an event's objects would go; the marks of
the garbage collector; the reference counts of the objects that an event uses; and the code that it runs.
"""

import gc
import opcode
import sys
from array import array
from types import CodeType, FunctionType

from wit_world.imports import image

# Objects that fill the free blocks. They are kept for ever.
_filling: list = []
# What was made immortal. None of it may be freed before the image is taken.
_kept: list = []
# Smaller objects are in pools, with one for each size.
_POOLED_MAX = 512
_NOP = bytes([opcode.opmap["NOP"], 0])
# More free blocks than the start of Python leaves behind.
_GATHERED_BLOCKS = 200_000
_SIZES = [
    *range(256 << 10, 16 << 10, -(16 << 10)),
    *range(16 << 10, 2 << 10, -(1 << 10)),
    *range(2 << 10, 512, -128),
    *range(512, 0, -8),
    # Not 0 or 1: CPython has only one object of each of these.
    4,
]


def fill_free_blocks(most: int, border: int) -> None:
    """Fills the free blocks below the address `border`, the large ones first, with at most `most` objects."""
    at = len(_filling)
    end = at + most
    _filling.extend([None] * most)
    # A block of this size goes to the end of the heap: what lies behind it is no free block between objects.
    last = bytes(256 << 10)
    border = max(border, id(last))
    for size in _SIZES:
        behind = 0
        while at < end and behind < 3:
            block = bytes(size)
            if id(block) > border:
                behind += 1
            else:
                _filling[at] = block
                at += 1
    # The two smallest sizes of blocks are smaller than a bytes object.
    for make in (_float, object):
        behind = 0
        while at < end and behind < 3:
            block = make()
            if id(block) > border:
                behind += 1
            else:
                _filling[at] = block
                at += 1
    del _filling[at:]


def _float() -> float:
    return float("1.5")


def make_immortal() -> int:
    """Makes every object that the collector can reach immortal. Returns the highest address of one.

    A reference count of an immortal object is never written. CPython allows it for any object: it is then never freed,
    which does not matter for what an image contains.
    """
    is_immortal = getattr(sys, "_is_immortal", None)
    if is_immortal is None:
        return 0
    found = gc.get_objects()
    seen = {id(one) for one in found}
    # Containers of this function, which end with it.
    own = {id(found), id(seen)}
    referents = gc.get_referents
    at = 0
    while at < len(found):
        for one in referents(found[at]):
            if id(one) not in seen and not is_immortal(one):
                seen.add(id(one))
                found.append(one)
        at += 1
    addresses = array("I", [id(one) for one in found if id(one) not in own and not is_immortal(one)])
    _kept.append(found)
    image.make_immortal(addresses.buffer_info()[0], len(addresses))
    return max(addresses, default=0)


def gather(codes: list[CodeType]) -> None:
    """Copies the code of functions to the end of the heap, one after the other in this order.

    The interpreter writes to the code that it runs: it counts how often an instruction runs, and remembers what the
    instruction has found.
    """
    place = {code: index for index, code in enumerate(codes)}
    functions = [one for one in gc.get_objects() if type(one) is FunctionType and one.__code__ in place]
    functions.sort(key=lambda function: place[function.__code__])
    fill_free_blocks(_GATHERED_BLOCKS, 0)
    end = bytes(256 << 10)
    for size in range(8 << 10, _POOLED_MAX, -16):
        behind = 0
        while behind < 3:
            block = bytes(size)
            if id(block) > id(end):
                behind += 1
            else:
                _filling.append(block)
    for function in functions:
        code = function.__code__
        # Behind the last instruction, where nothing runs.
        missing = max(0, _POOLED_MAX + len(_NOP) - sys.getsizeof(code))
        function.__code__ = code.replace(co_code=code.co_code + _NOP * (missing // len(_NOP)))


def settle(most: int) -> None:
    """Leaves the heap as an image should be. `most`: how many free blocks may be filled."""
    gc.collect()
    fill_free_blocks(most, make_immortal())
    gc.freeze()
