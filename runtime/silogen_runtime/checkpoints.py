"""Which checkpoint a run goes on from: only one of which every file was written to the end counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.diagnostics import Diagnostic

if TYPE_CHECKING:
    from silogen_config import ResolvedConfig

HEADER_SIZE = 8  # bytes; a safetensors file begins with the length of its JSON header


class Start(NamedTuple):
    """Where a run starts: from `checkpoint`, or anew where it is None."""

    checkpoint: Path | None
    diagnostics: tuple[Diagnostic, ...] = ()


def choose_start(config: ResolvedConfig) -> Start:
    """Return where the run starts, as run.resume_from_checkpoint asks."""
    wanted = config.run.resume_from_checkpoint
    folders = checkpoint_folders(Path(config.trainer.args["output_dir"]))
    if wanted is False:
        return Start(None, tuple(_left_over(folders)))
    if isinstance(wanted, str) and wanted != "auto":
        return _exactly(Path(wanted))
    start = newest_complete(folders)
    if start.checkpoint is None and wanted is True:
        return Start(None, (*start.diagnostics, _none_to_resume(config)))
    return start


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """Return the folders `checkpoint-<step>`, newest first."""
    steps = {path: re.fullmatch(r"checkpoint-(\d+)", path.name) for path in output_dir.glob("checkpoint-*")}
    found = {path: int(match[1]) for path, match in steps.items() if match and path.is_dir()}
    return sorted(found, key=lambda path: found[path], reverse=True)


def newest_complete(folders: list[Path]) -> Start:
    """Return the first complete checkpoint, with a warning for each that was skipped."""
    skipped: list[Diagnostic] = []
    for folder in folders:
        defect = find_defect(folder)
        if not defect:
            return Start(folder, tuple(skipped))
        skipped.append(Diagnostic("SG709", f"skipped `{folder}`: {defect}"))
    return Start(None, tuple(skipped))


def find_defect(folder: Path) -> str:
    """Return what is wrong with a checkpoint; "" where it is complete.

    The trainer writes trainer_state.json last, so a checkpoint with that file lost nothing to a killed
    process; the lengths of the weights are checked for full disks and copies that were cut off.
    """
    if not folder.is_dir():
        return "there is no such folder"
    try:
        json.loads((folder / "trainer_state.json").read_bytes())
    except FileNotFoundError:
        return "trainer_state.json is missing, so it was not written to the end"
    except ValueError:
        return "trainer_state.json is cut off"
    weights = sorted(folder.glob("*.safetensors"))
    cut_off = [file.name for file in weights if not _is_complete(file)]
    if cut_off:
        return f"{cut_off[0]} is cut off"
    return "" if weights else "it holds no safetensors file"


def step_of(checkpoint: Path | None) -> int:
    """Return how many steps the checkpoint has behind it."""
    if checkpoint is None:
        return 0
    state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    return int(state["global_step"])


def _is_complete(file: Path) -> bool:
    """Tell whether a safetensors file is as long as its header says."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_length = int.from_bytes(stream.read(HEADER_SIZE), "little")
        if HEADER_SIZE + header_length > size:
            return False
        header = json.loads(stream.read(header_length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == HEADER_SIZE + header_length + max(ends, default=0)


def _exactly(checkpoint: Path) -> Start:
    defect = find_defect(checkpoint)
    if not defect:
        return Start(checkpoint)
    return Start(None, (Diagnostic("SG708", f"can't resume from `{checkpoint}`: {defect}"),))


def _none_to_resume(config: ResolvedConfig) -> Diagnostic:
    output_dir = config.trainer.args["output_dir"]
    return Diagnostic(
        "SG708",
        f"resume_from_checkpoint is true, but `{output_dir}` holds no complete checkpoint",
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
