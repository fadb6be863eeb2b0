"""`multiprocessing` and `multiprocessing.managers`, so that packages that name their classes can be imported. A use of
them is refused by name.
"""

from .importer import ADVICE

# A package has a path.
__path__: list[str] = []


def cpu_count() -> int:
    return 1


class Process:
    def __init__(self, *arguments, **keywords):
        raise OSError(f"a Python script starts no processes: {ADVICE}")


class BaseManager(Process):
    pass


SyncManager = Pool = Queue = Manager = Lock = Event = Process
