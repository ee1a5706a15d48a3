"""Which checkpoint a run goes on from: only one of which every file was written to the end counts."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.diagnostics import Diagnostic

from silogen_runtime.defects import MARK, SET_ASIDE, find_defect
from silogen_runtime.outputs import output_dir

if TYPE_CHECKING:
    from silogen_config import ResolvedConfig


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
    """Return the folders `checkpoint-<step>` that were not set aside, newest first."""
    paths = output_dir.glob("checkpoint-*") if output_dir else ()
    steps = {path: re.fullmatch(r"checkpoint-(\d+)", path.name) for path in paths}
    found = {path: int(match[1]) for path, match in steps.items() if match and path.is_dir()}
    kept = [path for path in found if not (path / SET_ASIDE).exists()]
    return sorted(kept, key=lambda path: found[path], reverse=True)


def set_aside(checkpoint: Path) -> None:
    """Let no run go on from a checkpoint that `auto` would take for one of the run that trains now."""
    if (checkpoint / MARK).exists():
        (checkpoint / MARK).rename(checkpoint / SET_ASIDE)


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


def step_of(checkpoint: Path | None) -> int:
    """Return how many steps the checkpoint has behind it."""
    if checkpoint is None:
        return 0
    state = json.loads((checkpoint / MARK).read_bytes())
    return int(state["global_step"])


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
            help='write "auto" to go on from the newest, or move them away: this run writes over some',
        ),
    ]
