"""One side of a comparison in a process of its own: `python one_run.py silogen|handwritten RUN`, RUN as JSON.

It takes a turn a step: at the end of each it writes a line and waits for one, so that two sides alternate
and a busy machine slows both. The last line is JSON: the seconds of each step by the clock and of the
processor (`work`), losses, tokens, and the most memory in bytes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

import torch
from material import Run, resolved_of
from transformers import TrainerCallback, TrainerState, trainer

channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the libraries print is not for the other end


class Turns(TrainerCallback):
    """Measures from the end of a step to the end of the next, with nothing left out but the other's turn."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.work: list[float] = []
        self.losses: list[float] = []
        self.tokens: dict[int, float] = {}  # trained on up to a step
        self.start = (0.0, 0.0)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start[0])
        self.work.append(time.process_time() - self.start[1])
        print("step", file=channel, flush=True)
        sys.stdin.readline()
        self.start = (time.perf_counter(), time.process_time())

    def on_log(self, _: Any, state: TrainerState, __: Any, *, logs: dict[str, float], **___: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])
            self.tokens[state.global_step] = logs.get("num_tokens", 0)


def main() -> None:
    side, run = sys.argv[1], Run(**json.loads(sys.argv[2]))
    turns = Turns()
    trainer.DEFAULT_CALLBACKS.insert(0, turns)
    {"silogen": silogen, "handwritten": handwritten}[side](run)
    print(json.dumps(vars(turns) | {"memory": memory()}), file=channel, flush=True)


def silogen(run: Run) -> None:
    from rich.console import Console  # noqa: PLC0415 - counts for this side only
    from silogen_runtime.train import train  # noqa: PLC0415

    train(resolved_of(run), console=Console(stderr=True))


def handwritten(run: Run) -> None:
    import handwritten  # noqa: PLC0415 - counts for this side only

    handwritten.train(run)


def memory() -> int:
    """Return the most memory that was taken of the GPU, else by this process, in bytes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
