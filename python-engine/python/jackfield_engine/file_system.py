"""The files of a script and of its packages, as functions of the standard library see them: `open`, `os.stat`,
`os.listdir` and `pathlib`. They can be read and not written.

A path begins at the folder in which the file is importable: `package/data.json`, and the same with a `/` before it.
What is not among them is looked for in the folders that the manifest grants.
"""

import builtins
import errno
import io
import os
import posixpath
import stat
import tokenize

# Path: content.
files: dict[str, str | bytes] = {}
# Path of a folder: the names in it.
_folders: dict[str, set[str]] = {}

_open, _stat, _lstat, _listdir, _scandir = io.open, os.stat, os.lstat, os.listdir, os.scandir


def add(path: str, content: str | bytes) -> None:
    files[path] = content
    while path:
        folder, _, name = path.rpartition("/")
        names = _folders.setdefault(folder, set())
        if name in names:
            break
        names.add(name)
        path = folder


def content(path) -> bytes:
    found = files[_key(path)]
    return found.encode() if isinstance(found, str) else found


def _key(path) -> str | None:
    """The path as the dictionaries have it; `None` if it is no path, such as a number of an open file."""
    try:
        path = os.fsdecode(path)
    except TypeError:
        return None
    key = posixpath.normpath(path).lstrip("/")
    return "" if key == "." else key


def open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    key = _key(file)
    if key not in files:
        return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if set(mode) & set("wax+"):
        raise PermissionError(errno.EROFS, "the files of a script cannot be written", os.fsdecode(file))
    stream = io.BytesIO(content(key))
    stream.name = file
    return stream if "b" in mode else io.TextIOWrapper(stream, encoding or "utf-8", errors, newline)


def _stat_of(key: str) -> os.stat_result:
    found = files.get(key)
    kind = stat.S_IFDIR | 0o555 if found is None else stat.S_IFREG | 0o444
    size = 0 if found is None else len(content(key))
    return os.stat_result((kind, 0, 0, 1, 0, 0, size, 0, 0, 0))


def _stat_with(original):
    def wrapped(path, *, dir_fd=None, follow_symlinks=True):
        key = _key(path)
        if key and (key in files or key in _folders):
            return _stat_of(key)
        return original(path)

    return wrapped


def listdir(path="."):
    key = _key(path)
    return sorted(_folders[key]) if key and key in _folders else _listdir(path)


class _Entry:
    def __init__(self, folder: str, name: str):
        self.name, self.path = name, posixpath.join(folder, name)

    def __fspath__(self):
        return self.path

    def is_dir(self, *, follow_symlinks=True):
        return _key(self.path) in _folders

    def is_file(self, *, follow_symlinks=True):
        return _key(self.path) in files

    def is_symlink(self):
        return False

    def stat(self, *, follow_symlinks=True):
        return os.stat(self.path)


class _Entries:
    def __init__(self, entries):
        self._entries = iter(entries)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.close()

    def close(self):
        self._entries = iter(())


def scandir(path="."):
    key = _key(path)
    if not key or key not in _folders:
        return _scandir(path)
    return _Entries([_Entry(os.fsdecode(path), name) for name in sorted(_folders[key])])


def install() -> None:
    # `linecache`, which tracebacks use, reads with `tokenize`.
    builtins.open = io.open = tokenize._builtin_open = open
    os.stat, os.lstat = _stat_with(_stat), _stat_with(_lstat)
    os.listdir, os.scandir = listdir, scandir
