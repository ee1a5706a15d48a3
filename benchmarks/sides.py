"""Runs the sides of a comparison, each in a process of its own, in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SIDES = ("silogen", "handwritten")

# Has malloc keep what is freed. Else it gives memory back to the kernel and fetches it again in each step:
# how often depends on where a process happens to lie, and makes one that does the same up to 9 % slower.
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}

Result = dict[str, Any]


def run_sides(
    program: str, jobs: dict[str, str], *, log: Path, variables: dict[str, str] | None = None
) -> dict[str, Result]:
    """Run a program beside this file on each side's job, started in their order.

    `variables` are added to the environment. Returns what each found, or ends the command.
    """
    with log.open("w") as errors:
        processes = {side: _start(program, side, job, errors, variables or {}) for side, job in jobs.items()}
        try:
            return _take_turns(processes)
        except EOFError as error:
            sys.exit(f"{log.read_text()}\n{error} failed: see above")
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def _start(
    program: str, side: str, job: str, errors: Any, variables: dict[str, str]
) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).parent / program), side, job]
    return subprocess.Popen(
        command,
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        bufsize=1,
    )


def _take_turns(processes: dict[str, subprocess.Popen[str]]) -> dict[str, Result]:
    lines = {side: _read(side, process) for side, process in processes.items()}  # both have loaded then
    while not all(line.startswith("{") for line in lines.values()):
        for side, process in processes.items():
            if not lines[side].startswith("{"):
                process.stdin.write("go\n")
                lines[side] = _read(side, process)
    return {side: json.loads(line) for side, line in lines.items()}


def _read(side: str, process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    if not line:
        raise EOFError(side)
    return line
