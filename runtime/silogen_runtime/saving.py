"""Checkpoints that count only when they were written to the end."""

from __future__ import annotations

import shutil
import signal
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Refused

from silogen_runtime.checkpoints import checkpoint_folders, set_aside
from silogen_runtime.defects import MARK, find_defect
from silogen_runtime.signals import ASKING
from silogen_runtime.space import disk_full, is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from silogen_runtime.records import Records


PATIENCE = 10.0  # seconds that a checkpoint waits for the files of the run to be hashed


class WholeCheckpoints:
    """A part of a trainer: its checkpoints hold the records of the run, and no file of an earlier one.

    What could not be written to the end is removed. Refused where there is no space for it. Processes that
    load data leave signals to the one that trains.
    """

    records: Records

    def get_train_dataloader(self) -> Any:
        return deaf(super().get_train_dataloader())  # type: ignore[misc]

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return deaf(super().get_eval_dataloader(eval_dataset))  # type: ignore[misc]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Leave TRL's card out, which names no data and `None` as base; the trained model gets one."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        folder = Path(trainer.args.output_dir, f"checkpoint-{trainer.state.global_step}")
        try:
            self._begin(folder)
            with unlimited(trainer.args):
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self._end(folder)
        except Exception as error:
            if find_defect(folder, with_states=False):
                shutil.rmtree(folder, ignore_errors=True)
            if not is_disk_full(error):
                raise
            needed = size_of_checkpoint(trainer.model, trainer.optimizer)
            finding = disk_full(trainer.args.output_dir, trainer.args.save_total_limit, needed)
            raise Refused(finding) from error

    def _begin(self, folder: Path) -> None:
        """Remove what is there of an earlier run, its mark first, and write the records."""
        trainer: Any = self
        if trainer.args.should_save:
            (folder / MARK).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            self.records.write(folder, PATIENCE)
        trainer.accelerator.wait_for_everyone()

    def _end(self, folder: Path) -> None:
        """Let `folder` be the newest checkpoint, and remove the old ones above save_total_limit.

        Any of a later step is of another run. All processes have written to the new one before.
        """
        trainer: Any = self
        trainer.accelerator.wait_for_everyone()
        if not trainer.args.should_save:
            return
        folders = checkpoint_folders(folder.parent)
        place = folders.index(folder)
        for later in folders[:place]:
            set_aside(later)
        best = Path(trainer.state.best_model_checkpoint or folder)
        for old in surplus(folders[place:], best, trainer.args.save_total_limit):
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def unlimited(args: Any) -> Iterator[None]:
    """Keep transformers from removing checkpoints: it takes the trained model for one by its name."""
    limit, args.save_total_limit = args.save_total_limit, None
    try:
        yield
    finally:
        args.save_total_limit = limit


def surplus(folders: list[Path], best: Path, limit: int | None) -> list[Path]:
    """Return those of the checkpoints, newest first, that exceed `limit`; the first and `best` stay."""
    if not limit or limit < 0:
        return []
    kept = {folders[0], *(folder for folder in folders if folder == best)}
    return [folder for folder in folders if folder not in kept][max(limit - len(kept), 0) :]


def deaf(loader: Any) -> Any:
    """Return a data loader whose processes outlive the signals that SLURM sends to all processes of a job."""
    loader.worker_init_fn = partial(_start_deaf, loader.worker_init_fn)
    return loader


def _start_deaf(start: Callable[[int], None] | None, worker: int) -> None:
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)
    if start:
        start(worker)


def size_of_checkpoint(model: Any, optimizer: Any) -> int:
    """Return the bytes of the weights that are saved, and of what the optimizer keeps of them."""
    is_adapter = hasattr(model, "peft_config")
    saved = [weight for weight in model.parameters() if weight.requires_grad or not is_adapter]
    states = [value for state in optimizer.state.values() for value in state.values()]
    kept = [value for value in states if hasattr(value, "numel")]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*saved, *kept))
