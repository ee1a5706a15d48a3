"""What DeepSpeed compiles at its first use: in one place, and before any test waits for it."""

from __future__ import annotations

import os
import subprocess
import sys

from filelock import FileLock
from paths import ROOT

FOLDER = ROOT / "build" / "torch_extensions"
VARIABLES = {"TORCH_EXTENSIONS_DIR": str(FOLDER)}
BUILD = "from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder as Builder; Builder().load()"


def build_extensions() -> None:
    """Compile them where they are not there yet. The tests' own processes do so one after another."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / "build.lock"):
        for lock in FOLDER.glob("*/lock"):  # of a build that was killed: all later ones would wait for it
            lock.unlink()
        command = [sys.executable, "-c", BUILD]
        subprocess.run(command, env={**os.environ, **VARIABLES}, check=True, capture_output=True)
