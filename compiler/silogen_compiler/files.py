"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def write_whole(name: str | os.PathLike[str], text: str) -> None:
    """Write `text` to the file `name`, which is there whole or as it was before.

    A link is followed, a file keeps its mode, and what is no file, such as a pipe, is written to as it is.
    """
    if os.path.exists(name) and not os.path.isfile(name):  # noqa: PTH110, PTH113 - pathlib costs start-up time
        with open(name, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
        return
    path = os.path.realpath(name)
    with new_file(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
            file.write(text)
        with suppress(FileNotFoundError):
            os.chmod(temporary, os.stat(path).st_mode)  # noqa: PTH101, PTH116


@contextmanager
def new_file(name: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a name to write to; that file takes the place of `name` when the block ends without an error."""
    folder, base = os.path.split(os.path.abspath(name))  # noqa: PTH100 - pathlib costs start-up time
    temporary = f"{folder}/.{os.getpid()}.{base}"
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, name)  # noqa: PTH105
        sync(folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108


def sync(name: str | os.PathLike[str]) -> None:
    """Have the system write a file, or the names in a folder, to disk."""
    descriptor = os.open(name, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
