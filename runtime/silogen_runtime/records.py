"""What a run leaves beside its weights: its resolved config, the lock of what it reads, and the versions."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch
from silogen_compiler.diagnostics import Refused
from silogen_compiler.files import write_whole
from silogen_compiler.lock import lock_text, make_lock

if TYPE_CHECKING:
    from pathlib import Path

CONFIG, LOCK, VERSIONS = ("resolved.json", "resolved.lock.json", "versions.json")

PACKAGES = (
    "silogen",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "deepspeed",
    "numpy",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)

Resolved = dict[str, Any]


class Records:
    """The records of one run, whose output folder is `folder`; None where this process writes nothing.

    The files that the run reads are hashed in a thread while it goes on.
    """

    def __init__(self, resolved: Resolved, folder: Path | None) -> None:
        self.texts = {CONFIG: _as_text(resolved), VERSIONS: _as_text(installed_versions())}
        self.hashing = Thread(target=self._lock, args=(resolved, folder), daemon=True)
        if folder:
            (folder / LOCK).unlink(missing_ok=True)
            for name, text in self.texts.items():
                write_whole(folder / name, text)
            self.hashing.start()

    def write(self, folder: Path, patience: float | None = None) -> None:
        """Write all records; without the lock where the files are not hashed in `patience` seconds."""
        self.hashing.join(patience)
        for name, text in list(self.texts.items()):
            write_whole(folder / name, text)

    def _lock(self, resolved: Resolved, folder: Path) -> None:
        with suppress(Refused, OSError):  # a file that can't be read any more is not worth the run
            self.texts[LOCK] = lock_text(make_lock(resolved, schema=""))
            write_whole(folder / LOCK, self.texts[LOCK])


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """Return a record of the run that wrote a checkpoint, from its folder or the one around it; else {}."""
    for place in (folder / name, folder.parent / name):
        try:
            record = json.loads(place.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            return record
    return {}


def installed_versions() -> dict[str, str]:
    """Return the versions of all that has a part in the trained weights."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    return {name: text for name, text in {**found, "cuda": torch.version.cuda}.items() if text}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _as_text(record: Resolved) -> str:
    return json.dumps(record, indent=2) + "\n"
