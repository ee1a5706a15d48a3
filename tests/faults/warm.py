"""Trains resolved configs, a line of JSON each: the first here, which imports all there is, others in forks.

Writes the id of each process when it starts, and how it ended.
"""

from __future__ import annotations

import json
import os
import sys

import torch
from rich.console import Console
from silogen_runtime.train import train

torch.set_num_threads(1)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # libraries print while they are imported


def answer(number: int) -> None:
    answers.write(f"{number}\n")
    answers.flush()


def run(line: str) -> None:
    train(json.loads(line), console=Console(quiet=True))


def run_and_exit(line: str) -> None:
    code = 1
    try:
        run(line)
        code = 0
    finally:
        os._exit(code)


answer(os.getpid())
run(sys.stdin.readline())
answer(0)
for line in sys.stdin:
    process = os.fork()
    if not process:
        run_and_exit(line)
    answer(process)
    answer(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
