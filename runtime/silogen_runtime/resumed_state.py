"""What transformers takes from a checkpoint though the config with which the run goes on says otherwise."""

# ruff: noqa: ARG002 - the trainer calls its callbacks with more than they need

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class ResumedState(TrainerCallback):
    """Has a run that goes on log, evaluate and save as often, and learn as fast, as its config says.

    With `forgets_best` the best model is sought from here on: another metric chose the one so far.
    """

    def __init__(self, *, forgets_best: bool) -> None:
        self.forgets_best = forgets_best

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not 0 < state.global_step < state.max_steps:
            return
        state.compute_steps(args, state.max_steps)  # type: ignore[no-untyped-call]
        if self.forgets_best:
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None
        follow(kwargs["lr_scheduler"])


def follow(schedule: Any) -> None:
    """Give the next step the learning rate of the schedule as it is now, which may have another length.

    That is the rate in the checkpoint, bit for bit, where the length is the same. Schedules that are no
    functions of the step, and DeepSpeed's own, stay as they are.
    """
    if not isinstance(schedule, LambdaLR):
        return
    step = schedule.last_epoch
    rates = [base * rate(step) for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule.load_state_dict({**schedule.state_dict(), "_last_lr": rates})
