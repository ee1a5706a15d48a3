"""What a run shows and records: a progress line, metrics.jsonl, and pictures at its end."""

# ruff: noqa: ARG002 - the trainer calls its callbacks with more than they need

from __future__ import annotations

import json
import math
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from silogen_compiler.diagnostics import Refused
from silogen_compiler.files import write_whole
from transformers import TrainerCallback

from silogen_runtime.environment import is_main_process
from silogen_runtime.failures import explain_failures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console
    from transformers import TrainerControl, TrainerState, TrainingArguments

Metrics = dict[str, Any]


class MetricsFile(TrainerCallback):
    """Appends one JSON object for each log event of the trainer to metrics.jsonl.

    `tokens_per_second` is the speed of all processes since the last event, without validation and saving;
    `seconds` and `num_tokens` count from the start of this process, and `part` numbers the processes that a
    run was resumed in. A resumed run keeps the lines up to the checkpoint's step and drops the later ones,
    which it writes again.
    """

    def __init__(self, path: Path, resumed_step: int) -> None:
        self.path = path
        self.start = self.stepped = 0.0  # on the clock
        self.last = (0.0, 0.0)  # the clock, tokens
        self.part = 1
        if is_main_process():
            kept = read_metrics(path, upto=resumed_step)
            self.part += max((line.get("part", 0) for line in kept), default=0)
            write_whole(path, "".join(f"{json.dumps(line)}\n" for line in kept))

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.start = self.stepped = time.monotonic()
        self.last = (self.start, 0.0)

    def on_step_end(self, *_: object, **__: object) -> None:
        self.stepped = time.monotonic()

    def on_evaluate(self, *_: object, **__: object) -> None:
        """Leave what followed the last step, validation or the saving of a checkpoint, out of the speed."""
        before, tokens = self.last
        now = time.monotonic()
        self.last = (min(before + now - self.stepped, now), tokens)
        self.stepped = now

    on_save = on_evaluate

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logs: Metrics = kwargs["logs"]
        if "loss" in logs:
            logs["memory_gb"] = round(memory() / 1e9, 3)
        if "num_tokens" in logs:
            logs["tokens_per_second"] = round(self._tokens_per_second(logs["num_tokens"]), 1)
        if is_main_process():
            with self.path.open("a", encoding="utf-8") as file:
                counted = {"seconds": round(time.monotonic() - self.start, 3), "part": self.part}
                file.write(json.dumps({"step": state.global_step, **logs, **counted}) + "\n")

    def _tokens_per_second(self, tokens: float) -> float:
        """Return the speed since the last log event; `tokens` counts from the start of this process."""
        (before, tokens_before), self.last = self.last, (time.monotonic(), tokens)
        return (tokens - tokens_before) / max(self.last[0] - before, 1e-9)


def memory() -> int:
    """Return the memory in bytes: the most that was taken of the GPU, or what this process takes now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    taken: int = psutil.Process().memory_info().rss
    return taken


class ProgressLine(TrainerCallback):
    """A bar on a terminal, a line for each log event elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("step", total=None, metrics="")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.bar.update(self.task, total=state.max_steps, completed=state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logs: Metrics = kwargs["logs"]
        if "loss" in logs:
            line = f"loss {logs['loss']:.4f}"
            if "rewards/accuracies" in logs:
                line += f"  {logs['rewards/accuracies']:.0%} right  margin {logs['rewards/margins']:.3g}"
            if "tokens_per_second" in logs:
                line += f"  {logs['tokens_per_second']:,.0f} tokens/s"
            self.bar.update(self.task, metrics=line)
        elif "eval_loss" in logs:
            line = f"validation loss {logs['eval_loss']:.4f}"
        else:
            return
        if "eval_loss" in logs or not self.console.is_terminal:
            self.console.print(f"step {state.global_step}/{state.max_steps}  {line}", highlight=False)


def read_metrics(path: Path, upto: float = math.inf) -> list[Metrics]:
    """Return the lines of a metrics file up to step `upto`; cut off or damaged ones are left out."""
    if not path.exists():
        return []
    lines = map(_read_line, path.read_bytes().splitlines(keepends=True))
    return [line for line in lines if line.get("step", math.inf) <= upto and "step" in line]


def _read_line(line: bytes) -> Metrics:
    """Return what a line holds; nothing where it is not whole, or its step, losses or part are no numbers."""
    try:
        metrics = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    if not isinstance(metrics, dict):
        return {}
    drawn = [metrics[key] for key in ("step", "loss", "eval_loss", "part") if key in metrics]
    return metrics if all(isinstance(value, int | float) for value in drawn) else {}


@contextmanager
def reported(folder: Path, resolved: dict[str, Any], steps: int) -> Iterator[None]:
    """Draw the run of `steps` steps in the block when it has ended, however it has; in the first process."""
    if not is_main_process():
        yield
        return
    ended = "Failed"
    try:
        yield
        ended = "Finished"
    except KeyboardInterrupt:
        ended = "Stopped"
        raise
    except Refused as refused:
        ended = f"Failed ({', '.join(finding.code for finding in refused.diagnostics)})"
        raise
    finally:
        with suppress(*([] if ended == "Finished" else [Refused])), explain_failures("drawing the report"):
            from silogen_runtime.report import draw_loss, write_report  # noqa: PLC0415 - memory that training lacks

            metrics = read_metrics(folder / "metrics.jsonl")
            draw_loss(metrics, resolved["method"], folder / "loss.png")
            write_report(metrics, resolved, folder / "report.html", ended=ended, steps=steps)
