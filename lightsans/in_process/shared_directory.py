"""The directory of a `Recommender` without ``root``, and of its copies."""

import weakref
from pathlib import Path
from typing import Self

from lightsans.errors import NotFoundError
from lightsans.scratch import make_directory, remove_directory


class SharedDirectory:
    """A directory that goes with the last object that refers to this one, copies included."""

    def __init__(self) -> None:
        self.path = make_directory()
        weakref.finalize(self, remove_directory, self.path)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _known_directory, (self.path,)


def _known_directory(path: Path) -> SharedDirectory:
    """A directory that another process, or this one, has made; it goes when that says so.

    Raises:
        NotFoundError: It has gone.
    """
    if not path.exists():
        raise NotFoundError(
            f"{path}: this directory went with the object, or the process, that was pickled; "
            "Recommender.save(directory) keeps one, and Recommender.load(directory) reads it"
        )
    found = SharedDirectory.__new__(SharedDirectory)
    found.path = path
    return found
