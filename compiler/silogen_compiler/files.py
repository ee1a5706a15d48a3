"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress


def write_whole(name: str, text: str) -> None:
    """Write `text` to the file `name`: into a temporary file beside it first, which then takes its place."""
    folder, base = os.path.split(os.path.abspath(name))  # noqa: PTH100 - pathlib costs start-up time
    temporary = f"{folder}/.{os.getpid()}.{base}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name)  # noqa: PTH105
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
