"""Full disks: told apart from other failures, and what to do about them."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from silogen_compiler.diagnostics import Diagnostic

NUMBERS = (errno.ENOSPC, errno.EDQUOT)

# What the libraries raise in place of the system's error: safetensors, then torch.
TEXTS = (*(f"(os error {number})" for number in NUMBERS), "inline_container.cc")

UNITS = ("bytes", "kB", "MB", "GB", "TB")
STEP = 1000


def is_disk_full(error: Exception) -> bool:
    """Tell whether a file could not be written since there is no space for it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NUMBERS
    return any(text in str(error) for text in TEXTS)


def disk_full(folder: Path | str, limit: int | None = None, needed: int = 0) -> Diagnostic:
    """Return what to say when `folder` can't be written to: `needed` bytes for each checkpoint, if known.

    `limit` is the number of checkpoints that are kept.
    """
    free = shutil.disk_usage(_existing(Path(folder))).free
    sizes = [f"{as_size(free)} free", *([f"a checkpoint takes about {as_size(needed)}"] if needed else [])]
    fewer = "write `save_total_limit: 2`" if not limit else f"lower `save_total_limit`, now {limit}"
    remedies = ["free space", "name another disk in `output_dir`", *([fewer] if limit != 1 else [])]
    help_text = f"{', '.join(remedies[:-1])}, or {remedies[-1]}"
    if limit != 1:
        help_text += "; a new checkpoint is written before an old one goes, so leave room for one more"
    return Diagnostic("SG762", f"no space left for `{folder}`: {', '.join(sizes)}", help=help_text)


def as_size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in UNITS[:-1]:
        if count < STEP:
            return f"{count:.3g} {unit}"
        count /= STEP
    return f"{count:.3g} {UNITS[-1]}"


def _existing(folder: Path) -> Path:
    """Return the folder, or the first one above it that is there."""
    return next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path())
