"""Imports modules from memory: the files of the script, and the standard library as compressed code.

There is no file system to import from. A module that is found nowhere is refused with what to do instead.
"""

import binascii
import importlib.machinery
import importlib.metadata
import importlib.resources.abc
import importlib.util
import marshal
import os
import pathlib
import sys
import zlib

from . import file_system, management
from .file_system import files

# Packages of the standard library that need a terminal, processes, native libraries, or that only help to develop.
_LEFT_OUT = {
    "_pyrepl", "antigravity", "config-3.14-wasm32-wasi", "curses", "dbm", "doctest", "ensurepip", "idlelib", "lib2to3",
    "multiprocessing", "pydoc", "pydoc_data", "sqlite3", "site-packages", "test", "this", "tkinter", "turtle",
    "turtledemo", "venv",
}  # fmt: skip
# Modules of the standard library that do not exist here, because they need native code.
_NATIVE = {"_ctypes", "_curses", "_dbm", "_gdbm", "_multiprocessing", "_posixshmem", "_sqlite3", "_ssl", "_tkinter",
           "ctypes", "curses", "dbm", "multiprocessing", "readline", "sqlite3", "ssl", "tkinter"}  # fmt: skip

ADVICE = 'run it with `type = "lambda"`, where all of Python works'

# Dotted name: (is it a package, compressed code).
_standard: dict[str, tuple[bool, bytes]] = {}
# Dotted name: (is it a package, path).
_modules: dict[str, tuple[bool, str]] = {}
# Dotted names of the modules of packages that are native code.
_native_modules: set[str] = set()


def collect_standard_library(root: str) -> None:
    """Keeps the code of each module that is not imported yet. Runs once, when the base image is built."""
    for folder, folders, names in os.walk(root):
        inner = folder[len(root) :].strip("/")
        folders[:] = [
            name
            for name in folders
            if name not in ("__pycache__", "test", "tests") and (inner or name not in _LEFT_OUT)
        ]
        for file in names:
            if not file.endswith(".py") or (not inner and file[:-3] in _LEFT_OUT):
                continue
            path = f"{inner}/{file}" if inner else file
            name, is_package = _dotted(path)
            if not name or name in sys.modules:
                continue
            with open(f"{root}/{path}", encoding="utf-8") as source:
                try:
                    code = compile(source.read(), f"/python/{path}", "exec", dont_inherit=True, optimize=2)
                except (SyntaxError, UnicodeDecodeError):
                    continue
            _standard[name] = (is_package, zlib.compress(marshal.dumps(code), 9))


def install() -> None:
    """Leaves only modules in memory to import."""
    own = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter]
    sys.meta_path[:] = [own[0], own[1], ScriptFinder, StandardFinder, Refusal]
    sys.path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()


def add(sources: dict[str, str], data: dict[str, str], native: list[str], main: str) -> list[str]:
    """Adds the files of a script, its data in base64, and the names of what is left out because it is native code.
    Returns warnings."""
    _native_modules.update(native)
    for path, encoded in data.items():
        file_system.add(path, binascii.a2b_base64(encoded))
    if "botocore/__init__.py" in sources:
        management.use_installed()
    warnings = []
    for path, source in sources.items():
        file_system.add(path, source)
        if path.endswith(".py"):
            name, is_package = _dotted(path)
            _modules[name] = (is_package, path)
            if name in sys.modules and name != main:
                warnings.append(f"{path} is not used: the engine has a module of that name, which imports find first")
    return warnings


def run_main(name: str):
    """Runs the module with the handler, also if the engine has a module of that name."""
    module = importlib.util.module_from_spec(ScriptFinder.find_spec(name))
    sys.modules.setdefault(name, module)
    ScriptLoader.exec_module(module)
    return module


def _dotted(path: str) -> tuple[str, bool]:
    name = path[: -len(".py")].replace("/", ".")
    if name == "__init__" or name.endswith(".__init__"):
        return name[: -len(".__init__")], True
    return name, False


class ScriptFinder:
    """Finds the modules of the script, and what its packages say about themselves."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        found = _modules.get(name)
        if found is not None:
            is_package, file = found
            spec = importlib.util.spec_from_loader(name, ScriptLoader, is_package=is_package, origin=file)
            if is_package:
                spec.submodule_search_locations = [file.rpartition("/")[0]]
            return spec
        folder = name.replace(".", "/")
        if any(module.startswith(f"{name}.") for module in _modules):
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [folder]
            return spec
        return None

    @staticmethod
    def find_distributions(context=None):
        wanted = getattr(context, "name", None)
        normal = wanted and wanted.lower().replace("-", "_").replace(".", "_")
        for path in list(files):
            folder, _, file = path.rpartition("/")
            if file == "METADATA" and folder.endswith(".dist-info"):
                name = folder.rpartition("/")[2].partition("-")[0].lower()
                if not normal or name == normal:
                    yield _Distribution(folder)

    @staticmethod
    def invalidate_caches():
        pass


class _Distribution(importlib.metadata.Distribution):
    def __init__(self, folder: str):
        self._folder = folder

    def read_text(self, filename):
        return files.get(f"{self._folder}/{filename}")

    def locate_file(self, path):
        return path


class ScriptLoader:
    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        path = module.__spec__.origin
        module.__file__ = path
        exec(compile(files[path], path, "exec", dont_inherit=True), module.__dict__)
        if module.__name__ == "botocore.session":
            management.install(module)

    @staticmethod
    def get_source(name):
        return files[_modules[name][1]]

    @staticmethod
    def is_package(name):
        return _modules[name][0]

    @staticmethod
    def get_filename(name):
        return _modules[name][1]

    @staticmethod
    def get_data(path):
        try:
            return file_system.content(path)
        except KeyError:
            raise FileNotFoundError(f"{path} is not among the files of the script") from None

    @staticmethod
    def get_resource_reader(name):
        return _Resources(_modules[name][1].rpartition("/")[0])


class _Resources(importlib.resources.abc.TraversableResources):
    """The files beside a module, for `importlib.resources`."""

    def __init__(self, folder: str):
        self._folder = folder

    def files(self):
        return pathlib.Path("/", self._folder)


class StandardFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        found = _standard.get(name)
        if found is None:
            return None
        return importlib.util.spec_from_loader(name, StandardFinder, is_package=found[0], origin="standard library")

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        exec(marshal.loads(zlib.decompress(_standard[module.__name__][1])), module.__dict__)

    @staticmethod
    def invalidate_caches():
        pass


class Refusal:
    """The last finder: says why there is no such module. The exception is one that `except ImportError` catches."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in _native_modules:
            raise ModuleNotFoundError(f"{name} is native code, which a Python script cannot run: {ADVICE}", name=name)
        if name in _NATIVE:
            raise ModuleNotFoundError(
                f"{name} needs native code or sockets, which a Python script does not have: {ADVICE}", name=name
            )
        top = name.partition(".")[0]
        if "." in name and (top in _modules or top in _standard or top in sys.stdlib_module_names):
            return None
        if top in sys.stdlib_module_names:
            raise ModuleNotFoundError(
                f"{name} is a module of the standard library that a Python script does not have: {ADVICE}", name=name
            )
        if path is None:
            raise ModuleNotFoundError(
                f"No module named {name!r}: put it beside the script, or install it with "
                f"`pip install --target packages {name}` in the script's folder; if it has native code, {ADVICE}",
                name=name,
            )
        return None

    @staticmethod
    def invalidate_caches():
        pass
