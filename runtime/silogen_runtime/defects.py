"""What is wrong with a checkpoint that was not written to its end, or that was cut off later."""

from __future__ import annotations

import json
import os
import zipfile
from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING, Any

from silogen_runtime.records import CONFIG, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = "trainer_state.json"  # the trainer writes it last
SET_ASIDE = (
    "earlier_trainer_state.json"  # what the mark is called when another run has taken the place of its own
)
HEADER_SIZE = 8  # bytes; a safetensors file begins with the length of its JSON header

# What a checkpoint holds beside the weights where one process writes the optimizer.
STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")

# What the weights are in: files of their own, or the folders of DeepSpeed and FSDP.
WEIGHTS = ("*.safetensors", "global_step*", "pytorch_model_fsdp*")


def find_defect(folder: Path, *, with_states: bool) -> str:
    """Return what is wrong with a checkpoint; "" where it is complete.

    A checkpoint with its mark lost nothing to a killed process; the ends of all files are checked for full
    disks and copies that were cut off.
    """
    if not folder.is_dir():
        return "there is no such folder"
    found = (_mark_defects(folder), _missing_files(folder, with_states=with_states), _cut_off_files(folder))
    return next(chain(*found), "")


def _mark_defects(folder: Path) -> Iterator[str]:
    try:
        state = json.loads((folder / MARK).read_bytes())
    except FileNotFoundError:
        if (folder / SET_ASIDE).exists():
            yield f"it is of an earlier run; rename {SET_ASIDE} in it to {MARK} to go on from it"
        yield f"{MARK} is missing, so it was not written to the end"
    except ValueError:
        yield f"{MARK} is cut off or damaged"
    else:
        if not isinstance(state, dict) or type(state.get("global_step")) is not int:
            yield f"{MARK} does not tell the step"


def _missing_files(folder: Path, *, with_states: bool) -> Iterator[str]:
    if not any(_named(folder, pattern) for pattern in WEIGHTS):
        yield "it holds no safetensors file"
    for index in folder.glob("*.safetensors.index.json"):
        yield from _missing_parts(index)
    for pattern in STATES if with_states else ():
        if not _named(folder, pattern):
            yield f"{pattern.replace('*', '')} is missing"
    yield from _missing_ranks(folder)
    yield from _missing_step(folder)
    yield from _missing_tables(folder)


def _named(folder: Path, pattern: str) -> list[str]:
    return [name for name in os.listdir(folder) if fnmatchcase(name, pattern)]  # noqa: PTH208


def _missing_parts(index: Path) -> Iterator[str]:
    """Yield the files that an index of weights in several files lists, and that are not there."""
    try:
        parts = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"{index.name} is cut off or damaged"
        return
    yield from (f"{part} is missing" for part in sorted(parts) if not (index.parent / part).exists())


def _missing_ranks(folder: Path) -> Iterator[str]:
    """Yield the random states of processes that are not there, where those of others are.

    Machines without a shared file system hold their own, of which each process looks for its own.
    """
    config = read_record(folder, CONFIG)
    world_size = config.get("launch", {}).get("world_size", 0)
    ranks = [str(rank) for rank in range(world_size)] if _named(folder, "rng_state_*.pth") else []
    if config.get("trainer", {}).get("args", {}).get("save_on_each_node"):
        ranks = [rank for rank in ranks if rank == os.environ.get("RANK")]
    names = (f"rng_state_{rank}.pth" for rank in ranks)
    yield from (f"{name} is missing" for name in names if not (folder / name).exists())


def _missing_step(folder: Path) -> Iterator[str]:
    """Yield what DeepSpeed would miss: the file that names the folder of its states, or that folder."""
    if _named(folder, "global_step*"):
        latest = folder / "latest"
        name = latest.read_text("utf-8", "replace").strip() if latest.exists() else ""
        if not name or not (folder / name).is_dir():
            yield "latest does not name a folder of DeepSpeed's states"


def _missing_tables(folder: Path) -> Iterator[str]:
    """Yield the tables of contents that FSDP's folders lack; each is written after all that it lists."""
    places = sorted({file.parent for file in folder.rglob("*.distcp")})
    tables = (place / ".metadata" for place in places)
    yield from (f"{table.relative_to(folder)} is missing" for table in tables if not table.exists())


def _cut_off_files(folder: Path) -> Iterator[str]:
    """Yield every file that does not end as its format does, those of DeepSpeed and FSDP included."""
    for file in sorted(folder.rglob("*")):
        is_whole = CHECKS.get(file.suffix)
        if is_whole and file.is_file() and not is_whole(file):
            yield f"{file.relative_to(folder)} is cut off or damaged"


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def _is_safetensors(file: Path) -> bool:
    """Tell whether a safetensors file is as long as its header says."""
    try:
        return _is_as_long_as_told(file)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):  # the header is something else
        return False


def _is_as_long_as_told(file: Path) -> bool:
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_length = int.from_bytes(stream.read(HEADER_SIZE), "little")
        if HEADER_SIZE + header_length > size:
            return False
        header: dict[str, Any] = json.loads(stream.read(header_length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == HEADER_SIZE + header_length + max(ends, default=0)


# How files of each kind are checked; torch's format is a zip file, whose table of contents is at its end.
CHECKS = {
    ".json": _is_json,
    ".safetensors": _is_safetensors,
    ".pt": zipfile.is_zipfile,
    ".pth": zipfile.is_zipfile,
    ".bin": zipfile.is_zipfile,
    ".distcp": zipfile.is_zipfile,
}
