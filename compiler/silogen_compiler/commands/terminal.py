"""What standard output can show."""

from __future__ import annotations

import os
import shutil
import sys


def colors() -> bool:
    """Tell whether standard output takes colours: a terminal, unless NO_COLOR says otherwise."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def columns() -> int:
    """Return the width of the terminal that standard output is; 0 for what is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
