"""`make targets`: harvests each target again, in an environment with just its versions, and compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import torch

from silogen_runtime.harvest import TARGETS

ENVIRONMENTS = Path("build", "targets")


def main() -> None:
    """Check every target; exit with 3 where one has drifted, and name the command that mends it."""
    drifted = [path.stem for path in sorted(TARGETS.glob("*.json")) if not is_current(path)]
    for name in drifted:
        python = interpreter(name)
        print(f"{name} has drifted: {python} -m silogen_runtime.harvest {name}")  # noqa: T201 - a command
    sys.exit(3 if drifted else 0)


def is_current(target: Path) -> bool:
    """Tell whether the versions that a target names still have what it holds."""
    python = build(target)
    print(f"harvesting {target.stem}", flush=True)  # noqa: T201 - this takes minutes
    command = [str(python), "-m", "silogen_runtime.harvest", target.stem, "--check"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(command, check=False, env=environment, stderr=subprocess.PIPE, text=True)  # noqa: S603
    if result.returncode not in (0, 3):
        raise RuntimeError(f"harvesting {target.stem} failed:\n{result.stderr}")
    return result.returncode == 0


def build(target: Path) -> Path:
    """Return the interpreter of an environment with the target's versions, built on first use."""
    python, ready = interpreter(target.stem), ENVIRONMENTS / target.stem / ".ready"
    if not ready.exists():
        print(f"building {ready.parent}", flush=True)  # noqa: T201 - this takes minutes
        venv.create(ready.parent, with_pip=True, clear=True)
        packages = json.loads(target.read_text("utf-8"))["packages"].items()
        pinned = [f"{name}=={version}" for name, version in packages]
        install(python, f"torch=={torch.__version__.partition('+')[0]}")
        install(python, *pinned, "rich", "scikit-learn")
        ready.touch()
    return python


def install(python: Path, *requirements: str) -> None:
    command = [str(python), "-m", "pip", "install", "-q", *requirements]
    subprocess.run(command, check=True)  # noqa: S603 - packages that the targets name


def interpreter(name: str) -> Path:
    return ENVIRONMENTS / name / "bin" / "python"


if __name__ == "__main__":
    main()
