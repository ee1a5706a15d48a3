"""`silogen` as a program on the path, whatever is installed."""

from __future__ import annotations

import os
import sys

MAIN = "from silogen_compiler.cli import main; main()"


def on_path(folder):
    """Write the program `silogen` into `folder` and return an environment that finds it first."""
    folder.mkdir()
    program = folder / "silogen"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{MAIN}' \"$@\"\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
