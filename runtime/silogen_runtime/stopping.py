"""Stopping a run at a signal: all processes save a checkpoint at the end of the same step."""

# ruff: noqa: ARG002 - the trainer calls its callbacks with more than they need

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import torch
from torch import distributed
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from silogen_runtime.environment import is_main_process

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from silogen_runtime.signals import Signals


def announce(number: int) -> None:
    """Say that a signal was heard; from within its handler, where nothing that buffers may be written to."""
    name = signal.Signals(number).name
    text = f"\n{name}: saving a checkpoint at the end of this step, then stopping; once more stops at once\n"
    if is_main_process():
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())


class StopCallback(TrainerCallback):
    """Saves a checkpoint at the end of the step in which any process heard a signal, and ends the training.

    A save that is due with the last step of an epoch waits for the end of the epoch: a run that goes on from
    it begins the next epoch, and would miss the evaluation there and the random numbers that it draws.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.number = 0  # the signal that all processes stop for
        self.is_stopped = False
        self.is_save_due = False
        self.group: distributed.ProcessGroup | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if args.world_size > 1:
            self.group = distributed.new_group(backend="gloo")  # asks no GPU to wait

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if state.global_step < state.max_steps:
            self.number = self.number or self._agree(self.signals.number)
        if self.number:  # else an evaluation decides whether to save
            args.save_strategy = SaveStrategy.STEPS
        if _ends_epoch(state):
            self.is_save_due, control.should_save = control.should_save, False
        elif self.number:
            control.should_save = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if self.is_stopped:  # in the midst of the epoch
            control.should_log = control.should_evaluate = control.should_save = False
        elif self.number or self.is_save_due:
            control.should_save = True
        self.is_save_due = False

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if self.number:
            self.is_stopped = control.should_training_stop = True

    def _agree(self, number: int) -> int:
        """Return the signal that any of the processes heard; they hear it in different steps."""
        if self.group is None:
            return number
        heard = torch.tensor(number)
        distributed.all_reduce(heard, distributed.ReduceOp.MAX, self.group)
        return int(heard)


def _ends_epoch(state: TrainerState) -> bool:
    return state.epoch is not None and state.epoch == int(state.epoch)
