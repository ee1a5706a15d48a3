"""`silogen train --dry-run`: two steps on the longest examples, and what they tell of the whole run."""

# ruff: noqa: ARG002 - the trainer calls its callbacks with more than they need

from __future__ import annotations

import resource
import sys
import time
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
import pyarrow.compute as pc
import torch
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from transformers import TrainerCallback

from silogen_runtime.checkpoints import step_of
from silogen_runtime.environment import is_main_process
from silogen_runtime.failures import explain_failures
from silogen_runtime.quiet import quiet_libraries
from silogen_runtime.resolved import parse
from silogen_runtime.summary import show_findings, show_summary
from silogen_runtime.train import load_parts, prepare
from silogen_runtime.trainer import build_trainer, make_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from silogen_runtime.trainer import Args, Plan, Trainer

    Sizes = NDArray[np.int64]

STEPS = 2  # the first makes the optimizer's state; the second has it in memory beside all else, as later ones
ACCUMULATED = 2  # batches of a step; gradients are in memory beside the second as beside every later one

# Arguments of the trainer that write, send or evaluate.
SAVES_NOTHING = {
    "save_strategy": "no",
    "eval_strategy": "no",
    "eval_on_start": False,
    "logging_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "report_to": "none",
    "train_sampling_strategy": "sequential",
}


class Peak(NamedTuple):
    """The most memory that a process took, of how much, in bytes."""

    taken: int
    total: int
    what: str


class Batches(NamedTuple):
    """How large the batches of a run are, in padded tokens: the longest, and on average."""

    longest_example: int
    longest: float
    mean: float


class Stopwatch(TrainerCallback):
    """Measures the seconds of stages and of the last step, with which training ends."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.ended = self.computed = 0.0
        self.batch = self.optimizer = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = now()
        with explain_failures(name):
            yield
        self.stages[name] = self.stages.get(name, 0) + now() - start

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.computed = now()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        before, self.ended = self.ended, now()
        self.batch = (self.computed - before) / args.gradient_accumulation_steps
        self.optimizer = self.ended - self.computed
        control.should_training_stop = state.global_step >= STEPS


def dry_run(
    resolved: dict[str, Any], *, console: Console, max_bad_lines: int = 0, allow_changes: bool = False
) -> None:
    """Take two steps of a resolved config on its longest examples, and print the time and memory of it.

    Refused as the run would be. Nothing stays but the tokenized data in the cache, where the run finds it.
    """
    config = parse(resolved)
    console = console if is_main_process() else Console(quiet=True)
    watch = Stopwatch()
    with quiet_libraries(), TemporaryDirectory(prefix="silogen-") as folder:
        start = prepare(config, resolved, allow_changes=allow_changes)
        parts = load_parts(
            parse(without_traces(resolved, folder)), console, max_bad_lines=max_bad_lines, stage=watch.stage
        )
        with watch.stage("setting up the trainer"), console.status("Setting up the trainer"):
            trainer = build_trainer(config, parts.args, parts.loaded, parts.chat, parts.data, [watch])
            plan = make_plan(trainer, step_of(start.checkpoint))
            plan = plan._replace(output_dir=config.trainer.args["output_dir"])
        show_findings(console, [*start.diagnostics, *parts.data.diagnostics])
        show_summary(console, parts.data, plan)
        batches = keep_longest(trainer, plan)
        with watch.stage("training"), console.status("Training on the longest examples"):
            trainer.train()
        rows = [
            ("loading", describe_loading(watch.stages)),
            ("longest", f"{batches.longest_example:,} tokens"),
            ("step", describe_step(watch, plan)),
        ]
        if trainer.eval_dataset is not None and config.trainer.args["eval_strategy"] != "no":
            rows.append(("validation", validate(trainer, watch)))
        rows.append(("peak memory", describe_peak(fullest(trainer), plan)))
        rows.append(("estimate", describe_run(watch, plan, batches)))
        show_rows(console, rows)


def without_traces(resolved: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return a resolved config for which the libraries write nothing that stays."""
    args = resolved["trainer"]["args"] | SAVES_NOTHING | {"output_dir": folder}
    run = resolved["run"] | {"save_name_if_new_basemodel": None}
    return resolved | {"trainer": resolved["trainer"] | {"args": args}, "run": run, "tracking": None}


def keep_longest(trainer: Trainer, plan: Plan) -> Batches:
    """Leave the trainer the longest examples of its data, over and over, for two short steps."""
    args = trainer.args
    lengths = lengths_of(trainer.train_dataset)
    args.max_steps = plan.steps  # few examples don't tell how long the schedules are
    if not trainer.is_deepspeed_enabled:  # whose engine knows the number already
        args.gradient_accumulation_steps = min(args.gradient_accumulation_steps, ACCUMULATED)
    wanted = args.per_device_train_batch_size * args.world_size
    longest = longest_of(lengths, wanted)
    trainer.train_dataset = trainer.train_dataset.select(
        np.tile(longest, STEPS * args.gradient_accumulation_steps)
    )
    if trainer.eval_dataset is not None:
        rows = longest_of(lengths_of(trainer.eval_dataset), args.per_device_eval_batch_size * args.world_size)
        trainer.eval_dataset = trainer.eval_dataset.select(rows)
    return sizes_of(lengths, longest, args)


def lengths_of(dataset: Dataset) -> Sizes:
    """Return how many tokens an example has; of a preference, with the longer answer."""
    columns = set(dataset.column_names)
    tables = dataset.with_format("arrow").iter(10_000)
    return np.concatenate([_lengths(table, is_pair="prompt_ids" in columns) for table in tables])


def _lengths(table: Any, *, is_pair: bool) -> Sizes:
    names = ("prompt_ids", "chosen_ids", "rejected_ids") if is_pair else ("input_ids",)
    first, *others = (np.asarray(pc.list_value_length(table[name]), np.int64) for name in names)
    return first + np.max(others, axis=0) if others else first


def longest_of(lengths: Sizes, count: int) -> Sizes:
    """Return the rows of the `count` longest examples, the longest first; some come again in small data."""
    rows: Sizes = np.argsort(-lengths, kind="stable")[:count]
    return np.resize(rows, count)


def sizes_of(lengths: Sizes, longest: Sizes, args: Args) -> Batches:
    """Return the sizes of the batches, which are as wide as their longest example where they are padded."""
    size = args.per_device_train_batch_size
    drawn = np.random.default_rng(args.seed).permutation(lengths)
    drawn = np.resize(drawn, (-(-len(drawn) // size), size))
    first = lengths[longest[:size]]
    if getattr(args, "packing", False) or getattr(args, "padding_free", False):
        return Batches(int(first[0]), first.sum(), drawn.sum(axis=1).mean())
    return Batches(int(first[0]), size * first[0], size * drawn.max(axis=1).mean())


def validate(trainer: Trainer, watch: Stopwatch) -> str:
    """Validate on the longest batch, and return how long that takes."""
    with watch.stage("validating"):
        trainer.evaluate()
    batch = trainer.args.per_device_eval_batch_size
    length = lengths_of(trainer.eval_dataset).max()
    many = f"{batch:,} example{'s' * (batch != 1)}"
    return f"{watch.stages['validating']:.2f} s: {many}, the longest of {length:,} tokens"


def now() -> float:
    """Return the time in seconds once the GPU has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak() -> Peak:
    """Return the memory of the fullest GPU of this process, or of the process itself."""
    if not torch.cuda.is_available():
        unit = 1 if sys.platform == "darwin" else 1024
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return Peak(taken, psutil.virtual_memory().total, "this machine")
    gpus = range(torch.cuda.device_count())
    totals = [torch.cuda.get_device_properties(gpu).total_memory for gpu in gpus]
    peaks = [torch.cuda.max_memory_allocated(gpu) for gpu in gpus]
    return max(Peak(taken, total, "the GPU") for taken, total in zip(peaks, totals, strict=True))


def fullest(trainer: Trainer) -> Peak:
    """Return the peak of the process with the most memory. All must call it."""
    mine = peak()
    taken = torch.tensor([mine.taken], device=trainer.args.device)
    return mine._replace(taken=int(trainer.accelerator.gather(taken).max()))


def describe_loading(stages: dict[str, float]) -> str:
    names = {
        "loading the tokenizer": "tokenizer",
        "tokenizing the data": "data",
        "loading the model": "model",
        "setting up the trainer": "trainer",
    }
    return ", ".join(f"{short} {stages[name]:.1f} s" for name, short in names.items())


def describe_step(watch: Stopwatch, plan: Plan) -> str:
    seconds = plan.accumulation * watch.batch + watch.optimizer
    parts = (
        f"{plan.accumulation:,} x {watch.batch:.2f} s forward and backward, {watch.optimizer:.2f} s optimizer"
    )
    return f"{seconds:.2f} s: {parts}"


def describe_peak(most: Peak, plan: Plan) -> str:
    who = f", in the fullest of {plan.processes} processes" if plan.processes > 1 else ""
    return f"{most.taken / 1e9:.2f} of {most.total / 1e9:.1f} GB of {most.what}{who}"


def describe_run(watch: Stopwatch, plan: Plan, batches: Batches) -> str:
    """Return the estimate, in which a batch takes as long as it has padded tokens."""
    steps = max(plan.steps - plan.first_step, 0)
    step = plan.accumulation * watch.batch * batches.mean / batches.longest + watch.optimizer
    of_all = f"{steps:,} step{'s' * (steps != 1)} of {step:.2f} s"
    return f"about {duration(steps * step)} for {of_all}, without validation and saving"


def duration(seconds: float) -> str:
    """Return, say, "3 h 20 min"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:  # noqa: PLR2004 - from here on in minutes
        return f"{max(seconds, 1):.0f} s"
    if hours >= 100:  # noqa: PLR2004 - from here on in days
        return f"{hours // 24} d {hours % 24} h"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"  # noqa: PLR2004


def show_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    for row in rows:
        table.add_row(*row)
    console.print(Padding(table, (1, 0, 0, 0), expand=False))
