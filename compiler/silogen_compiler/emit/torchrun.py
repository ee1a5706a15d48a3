"""The command line that starts as many processes as a config was compiled for."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin


def emit(resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str]) -> str:
    """Return one line for a shell. Refused for a config from standard input, which is there once."""
    del origins
    if "-" in inputs:
        message = "each process reads the config by itself, and standard input is there once"
        raise Refused(Diagnostic("SG505", message, help="write the config to a file, and compile that"))
    processes = resolved["launch"]["world_size"]
    command = [
        "torchrun",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        "silogen_runtime",
        *inputs,
    ]
    return shlex.join(command) + "\n"
