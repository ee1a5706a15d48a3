"""What training costs beside the same run written by hand with TRL: steps a second, memory, data preparation.

Both sides of a ratio run in turns, step by step or pass by pass, each in its own process, so that a busy
machine slows both. Two processes that do the same still differ by some per cent, so several pairs train,
each side first in half of them, and the median of their ratios counts. Prints a table. Steps a second are
told by the clock and by the processor's time, which other work on the machine moves less. Memory is the most
that a process took, with all that it has imported; further pairs tell it, since those that are timed keep
what they free.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from material import KINDS, Run, make_model, write_conversations, write_preferences
from sides import KEEPING, SIDES, Result, run_sides

WARM_UP = 5  # steps that do not count
PASSES = 3  # over the data that is prepared


@click.command()
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="Kinds of training to compare.")
@click.option(
    "--steps",
    type=click.IntRange(min=WARM_UP + 1),
    default=30,
    show_default=True,
    help="Steps of each run; the first five do not count.",
)
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Pairs of processes that are timed, for each kind.",
)
@click.option("--examples", default=3000, show_default=True, help="Conversations to prepare.")
def main(kinds: str, steps: int, pairs: int, examples: int) -> None:
    """Compare silogen with the same written by hand."""
    os.environ["OMP_NUM_THREADS"] = "1"  # models this small are fastest on one core
    with TemporaryDirectory(prefix="silogen-bench-") as name:
        folder = Path(name)
        make_model(folder / "model", "tiny", "float32")
        compare_training(folder, kinds.split(",") if kinds else [], steps, pairs)
        if examples:
            compare_preparation(folder, examples)


def compare_training(folder: Path, kinds: list[str], steps: int, pairs: int) -> None:
    write_conversations(folder / "chat.jsonl", 400)
    write_preferences(folder / "pairs.jsonl", 400)
    print(f"{'training: silogen / by hand':28} {'steps/s':>8} {'by CPU':>8} {'memory':>8}   (≥ 0.98, ≤ 1.05)")
    for kind in kinds:
        data = str(folder / ("pairs.jsonl" if kind == "dpo" else "chat.jsonl"))
        run = Run(kind, str(folder / "model"), data, str(folder / kind), steps)
        timed = run_pairs(run, pairs, KEEPING)
        measured = run_pairs(run, math.ceil(pairs / 2), {})
        ratios = {
            "seconds": [speed(*pair, "seconds") for pair in timed],
            "work": [speed(*pair, "work") for pair in timed],
            "memory": [ours["memory"] / theirs["memory"] for ours, theirs in measured],
        }
        middle = (f"{statistics.median(column):8.3f}" for column in ratios.values())
        each = ", ".join(f"{ratio:.3f}" for name in ("seconds", "memory") for ratio in ratios[name])
        sides = "; ".join(map(describe, timed[-1], measured[-1]))
        print(f"  {kind:26}", *middle, f"  of {each}; {sides}", flush=True)


def run_pairs(run: Run, pairs: int, variables: dict[str, str]) -> list[tuple[Result, Result]]:
    """Train in pairs of processes; return what silogen's and the hand-written one of each found."""
    results = []
    for order in islice(cycle((SIDES, SIDES[::-1])), pairs):
        jobs = {side: replace(run, output=f"{run.output}-{side}").to_json() for side in order}
        found = run_sides("one_run.py", jobs, log=Path(f"{run.output}.log"), variables=variables)
        results.append((found["silogen"], found["handwritten"]))
    return results


def speed(ours: Result, theirs: Result, clock: str) -> float:
    """Return silogen's steps a second by a clock, as a multiple."""
    return median(theirs, clock) / median(ours, clock)


def median(result: Result, clock: str) -> float:
    return statistics.median(result[clock][WARM_UP:])


def describe(timed: Result, measured: Result) -> str:
    """Return what one side's process that was timed took, and the memory of the one that told it."""
    milliseconds, megabytes = 1000 * median(timed, "seconds"), measured["memory"] / 1e6
    return f"{milliseconds:.0f} ms, {megabytes:.0f} MB, loss {timed['losses'][-1]:.4f}"


def compare_preparation(folder: Path, examples: int) -> None:
    data = write_conversations(folder / "prepared.jsonl", examples, words=(10, 120))
    print(f"{'preparation: silogen / by hand':28} {'tokens/s':>8}   (≥ 3)")
    for processes in sorted({1, os.cpu_count() or 1}):
        job = {"model": str(folder / "model"), "data": data, "processes": processes, "passes": PASSES}
        jobs = dict.fromkeys(SIDES, json.dumps(job))
        results = run_sides("one_preparation.py", jobs, log=folder / "preparation.log")
        ours, theirs = (results[side]["tokens"] / min(results[side]["seconds"]) for side in SIDES)
        assert results["silogen"]["tokens"] == results["handwritten"]["tokens"]
        name = f"{processes} process{'es' * (processes > 1)}"
        print(f"  {name:26} {ours / theirs:8.2f}   {ours:,.0f} and {theirs:,.0f} tokens a second", flush=True)


if __name__ == "__main__":
    main()
