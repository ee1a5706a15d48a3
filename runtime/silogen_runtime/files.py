"""Folders that are there whole or not at all."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from silogen_compiler.files import sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; it takes the place of `path` when the block ends without an error.

    What a process that was killed has left of either is put back, or removed. One process at a time writes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, earlier = (path.with_name(f".{path.name}.{state}") for state in ("new", "earlier"))
    if earlier.exists() and not path.exists():
        earlier.replace(path)
    for left in (temporary, earlier):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            sync(file)
        if path.exists():
            path.replace(earlier)
        temporary.replace(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)
