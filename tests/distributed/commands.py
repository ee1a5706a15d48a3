"""Commands of several processes, and what they print and leave behind."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from extensions import VARIABLES

COMMAND = (sys.executable, "-m", "silogen_runtime")

# A launcher's own variables would have every run join it.
LAUNCHERS = ("SLURM_", "PET_", "ACCELERATE_", "TORCHELASTIC_", "MASTER_")
QUIET = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # torchrun and accelerate
ENVIRONMENT = {
    **QUIET,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PATH": PROGRAMS,
    **VARIABLES,
}


def finish(process, timeout=600):
    """Wait for a command; return its exit code, None where it does not end, and what it printed."""
    with suppress(psutil.TimeoutExpired):
        process.wait(timeout)
    process.log.seek(0)
    return process.poll(), process.log.read()


def wait_for(condition, timeout=600):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return [line["loss"] for line in metrics(folder) if "loss" in line]


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])
