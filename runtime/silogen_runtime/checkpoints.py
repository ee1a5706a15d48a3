"""Which checkpoint a run goes on from: only one of which every file was written to the end counts."""

from __future__ import annotations

import json
import os
import re
import zipfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.diagnostics import Diagnostic

from silogen_runtime.outputs import output_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_config import ResolvedConfig

HEADER_SIZE = 8  # bytes; a safetensors file begins with the length of its JSON header

# What a checkpoint holds beside the weights, each in torch's format, which is a zip file.
STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


class Start(NamedTuple):
    """Where a run starts: from `checkpoint`, or anew where it is None."""

    checkpoint: Path | None
    diagnostics: tuple[Diagnostic, ...] = ()


def choose_start(config: ResolvedConfig) -> Start:
    """Return where the run starts, as run.resume_from_checkpoint asks."""
    wanted = config.run.resume_from_checkpoint
    if wanted is False:
        return Start(None, tuple(_left_over(checkpoint_folders(output_dir(config)))))
    if isinstance(wanted, str) and wanted != "auto":
        return _exactly(Path(os.path.expanduser(wanted)), with_states=saves_states(config))  # noqa: PTH111
    start = newest_complete(config)
    if start.checkpoint is None and wanted is True:
        return Start(None, (*start.diagnostics, _none_to_resume(config)))
    return start


def checkpoint_folders(output_dir: Path | None) -> list[Path]:
    """Return the folders `checkpoint-<step>`, newest first."""
    paths = output_dir.glob("checkpoint-*") if output_dir else ()
    steps = {path: re.fullmatch(r"checkpoint-(\d+)", path.name) for path in paths}
    found = {path: int(match[1]) for path, match in steps.items() if match and path.is_dir()}
    return sorted(found, key=lambda path: found[path], reverse=True)


def newest_complete(config: ResolvedConfig) -> Start:
    """Return the newest complete checkpoint, with a warning for each that was skipped."""
    skipped: list[Diagnostic] = []
    for folder in checkpoint_folders(output_dir(config)):
        defect = find_defect(folder, with_states=saves_states(config))
        if not defect:
            return Start(folder, (*skipped, *_without_optimizer(folder)))
        skipped.append(Diagnostic("SG709", f"skipped `{folder}`: {defect}"))
    return Start(None, tuple(skipped))


def moved_reference(config: ResolvedConfig, start: Start) -> list[Diagnostic]:
    """Return a warning where the reference model had moved, since checkpoints don't hold it."""
    if start.checkpoint is None or not config.trainer.args.get("sync_ref_model"):
        return []
    message = (
        f"`{start.checkpoint}` does not hold the reference model that sync_ref_model moved: it starts anew"
    )
    return [Diagnostic("SG737", message)]


def saves_states(config: ResolvedConfig) -> bool:
    """Tell whether checkpoints hold the optimizer in one file; FSDP and DeepSpeed have folders."""
    return config.launch.strategy in {"single", "ddp"} and not config.trainer.args.get("save_only_model")


def find_defect(folder: Path, *, with_states: bool) -> str:
    """Return what is wrong with a checkpoint; "" where it is complete.

    The trainer writes trainer_state.json last, so a checkpoint with that file lost nothing to a killed
    process; the ends of the other files are checked for full disks and copies that were cut off.
    """
    if not folder.is_dir():
        return "there is no such folder"
    states = _state_defects(folder) if with_states else ()
    return next(chain(_step_defects(folder), _weight_defects(folder), states), "")


def step_of(checkpoint: Path | None) -> int:
    """Return how many steps the checkpoint has behind it."""
    if checkpoint is None:
        return 0
    state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    return int(state["global_step"])


def _step_defects(folder: Path) -> Iterator[str]:
    try:
        state = json.loads((folder / "trainer_state.json").read_bytes())
    except FileNotFoundError:
        yield "trainer_state.json is missing, so it was not written to the end"
    except ValueError:
        yield "trainer_state.json is cut off or damaged"
    else:
        if not isinstance(state, dict) or type(state.get("global_step")) is not int:
            yield "trainer_state.json does not tell the step"


def _weight_defects(folder: Path) -> Iterator[str]:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        yield "it holds no safetensors file"
    for file in weights:
        if not _is_complete(file):
            yield f"{file.name} is cut off or damaged"
    for index in folder.glob("*.safetensors.index.json"):
        yield from _missing_parts(index)


def _missing_parts(index: Path) -> Iterator[str]:
    """Yield the files that an index of weights in several files lists, and that are not there."""
    try:
        parts = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"{index.name} is cut off or damaged"
        return
    yield from (f"{part} is missing" for part in sorted(parts) if not (index.parent / part).exists())


def _state_defects(folder: Path) -> Iterator[str]:
    for pattern in STATES:
        files = sorted(folder.glob(pattern))
        if not files:
            yield f"{pattern.replace('*', '')} is missing"
        yield from (f"{file.name} is cut off or damaged" for file in files if not zipfile.is_zipfile(file))


def _without_optimizer(folder: Path) -> list[Diagnostic]:
    if (folder / "optimizer.pt").exists() or any(folder.glob("*/")):
        return []
    return [
        Diagnostic(
            "SG732",
            f"`{folder}` holds no state of the optimizer, which starts anew with the learning rate schedule",
            help="write `save_only_model: false` in training_args for checkpoints to resume from",
        ),
    ]


def _is_complete(file: Path) -> bool:
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
        header = json.loads(stream.read(header_length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == HEADER_SIZE + header_length + max(ends, default=0)


def _exactly(checkpoint: Path, *, with_states: bool) -> Start:
    defect = find_defect(checkpoint, with_states=with_states)
    if not defect:
        return Start(checkpoint, tuple(_without_optimizer(checkpoint)))
    return Start(None, (Diagnostic("SG708", f"can't resume from `{checkpoint}`: {defect}"),))


def _none_to_resume(config: ResolvedConfig) -> Diagnostic:
    return Diagnostic(
        "SG708",
        f"resume_from_checkpoint is true, but `{output_dir(config)}` holds no complete checkpoint",
        help='write "auto" to start anew where there is no checkpoint',
    )


def _left_over(folders: list[Path]) -> list[Diagnostic]:
    if not folders:
        return []
    return [
        Diagnostic(
            "SG710",
            f"`{folders[0].parent}` holds checkpoints of an earlier run up to `{folders[0].name}`;"
            " this run starts anew beside them",
            help='write "auto" to go on from the newest, or move them away: a later resume may take them',
        ),
    ]
