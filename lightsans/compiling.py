"""Compilation of kernels by Numba, each once a machine.

What Numba compiles is kept in a directory named by the content of all kernels, so that a checkout,
an installed wheel and the directories that Ray unpacks for each job share it, and no function is
used whose callee has changed. Within it Numba tells processors apart.
"""

import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import njit
from numba.core.caching import _CacheLocator

F = TypeVar("F", bound=Callable[..., Any])
_PACKAGE = Path(__file__).parent
_numba: Any = numba.config  # its attributes are made when it is imported


def compiled(**options: Any) -> Callable[[F], F]:
    """Decorate a function to be compiled when it is first called, or found compiled.

    It releases Python's lock while it runs.

    Args:
        **options: Further options of `numba.njit`.
    """

    def decorate(function: F) -> F:
        if kernel_directory() is None:
            made: F = njit(nogil=True, **options)(function)
            return made
        before = _numba.CACHE_LOCATOR_CLASSES
        _numba.CACHE_LOCATOR_CLASSES = f"{__name__}.{KernelCache.__name__}"
        try:  # Numba asks for the place here, and knows it from then on
            made = njit(cache=True, nogil=True, **options)(function)
        finally:
            _numba.CACHE_LOCATOR_CLASSES = before
        return made

    return decorate


class KernelCache(_CacheLocator):
    """Answers to Numba's questions about where the code of a function is kept."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._line = function.__code__.co_firstlineno
        self._room = Path(file).parent.name
        self._py_file = file

    def get_cache_path(self) -> str:
        """Return the directory of the function's file, one of those named kernels."""
        return f"{kernel_directory()}/{self._room}"

    def get_source_stamp(self) -> str:
        """Return what compiled code must agree with, as the directory's name does."""
        return content_of_kernels()

    def get_disambiguator(self) -> str:
        """Return the line of the function, which functions of one name differ by."""
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "KernelCache":
        """Answer for a function of this file."""
        return cls(py_func, py_file)


@functools.cache
def content_of_kernels() -> str:
    """Name what compiled code depends on: the text of all kernels, and Numba."""
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(_PACKAGE.glob("*/kernels.py")):
        digest.update(f"{file.parent.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def kernel_directory() -> Path | None:
    """Find or make the directory of compiled kernels.

    ``NUMBA_CACHE_DIR`` if it is set; else the user's cache; where that cannot be written, a
    directory of this user's alone beside temporary files, which begins with what the other holds:
    an image may bring kernels along on a file system that is read-only when it runs. None where
    nothing can be written: then every process compiles for itself.
    """
    name = f"lightsans-kernels-{content_of_kernels()}"
    first = Path(_numba.CACHE_DIR or _home() / ".cache") / name
    if _is_writable(first):
        return first
    second = Path(tempfile.gettempdir(), f"{name}-{os.getuid()}")
    with suppress(OSError):
        if first.is_dir() and not second.exists():
            copy = Path(tempfile.mkdtemp(dir=second.parent))
            shutil.copytree(first, copy, dirs_exist_ok=True)
            copy.rename(second)  # fails if another process was faster
    return second if _is_writable(second) and _is_private(second) else None


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without an entry in the list of users
        return Path("/nonexistent")


def _is_writable(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError:
        return False
    return True


def _is_private(directory: Path) -> bool:
    """Whether nobody else can put code there for this process to run."""
    found = directory.lstat()
    is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not is_open
