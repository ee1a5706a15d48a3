"""What a compile costs: cold in multiples of `python -c pass`, memory, warm in compiles a second, by size.

Both sides of a ratio are measured in turns in one run, so that a busy machine slows both. Prints a table.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import timeit
from pathlib import Path
from subprocess import DEVNULL

from silogen_compiler.emit import emit_yaml
from silogen_compiler.pipeline import compile_text

ROOT = Path(__file__).parents[1]
CASES = ROOT / "tests" / "cases"
COLD = {
    "LoRA config": CASES / "valid" / "lora.yaml",
    "every section": CASES / "valid" / "every-section.yaml",
    "many mistakes": CASES / "invalid" / "many-mistakes-at-once.yaml",
}
COMPILE = "from silogen_compiler.cli import compile_main; compile_main()"


def seconds(*command: str) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], capture_output=True, check=False, env=environment)
    return time.perf_counter() - start


def cold(rounds: int = 31) -> None:
    """Print the cold cost of a compile; the first round, which writes .pyc files, does not count."""
    programs = {"python -c pass": ["-c", "pass"]}
    programs |= {name: ["-c", COMPILE, str(path)] for name, path in COLD.items()}
    times = [{name: seconds(*command) for name, command in programs.items()} for _ in range(rounds)][1:]
    base = statistics.median(run["python -c pass"] for run in times)
    print(f"{'cold silogen-compile':30} {'× python -c pass':>18}   (budget 8)")
    for name in COLD:
        print(f"  {name:28} {statistics.median(run[name] for run in times) / base:18.2f}")


def memory() -> None:
    """Print the largest resident memory of a cold compile, in MB."""
    print(f"{'memory, cold':30} {'MB':>18}   (budget 40)")
    for name, path in COLD.items():
        process = subprocess.Popen([sys.executable, "-c", COMPILE, str(path)], stdout=DEVNULL, stderr=DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        print(f"  {name:28} {usage.ru_maxrss * 1024 / 1e6:18.1f}")


def warm(rounds: int = 300) -> None:
    """Print the rate of the round that other programs disturbed least, as timeit has it, and the median."""
    text = COLD["LoRA config"].read_text()
    compiled = compile_text("run.yaml", text, environment={})  # loads the schema, which later compiles share
    assert compiled.resolved is not None
    programs = {
        "compiles": lambda: compile_text("run.yaml", text, environment={}),
        "YAML outputs": lambda: emit_yaml(compiled.resolved, compiled.origins),
    }
    print(f"{'warm, in one process':30} {'a second':>18}   (budget 1,000)")
    for name, program in programs.items():
        times = timeit.repeat(program, number=10, repeat=rounds)
        print(f"  {name:28} {10 / min(times):18.0f}   (median {10 / statistics.median(times):.0f})")


def by_size() -> None:
    """Print the time for a data set more, which stays the same where time grows in step with size."""
    text = COLD["LoRA config"].read_text()
    line = "      - path: data/train.jsonl\n"
    print(f"{'data sets':30} {'µs a data set':>18}")
    for count in (10, 100, 1_000, 10_000):
        many = text.replace(line, line * count)
        start = time.perf_counter()
        compiled = compile_text("run.yaml", many, environment={})
        assert compiled.resolved is not None
        print(f"  {count:<28,} {(time.perf_counter() - start) / count * 1e6:18.1f}")


if __name__ == "__main__":
    cold()
    memory()
    warm()
    by_size()
