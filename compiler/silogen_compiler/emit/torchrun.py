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
    launch = resolved["launch"]
    machines = launch.get("nodes", 1)
    processes = str(launch["world_size"] // machines)
    command = [
        "torchrun",
        *_meeting(launch, machines),
        "--nproc-per-node",
        processes,
        "-m",
        "silogen_runtime",
    ]
    return shlex.join([*command, *inputs]) + "\n"


def _meeting(launch: dict[str, Any], machines: int) -> list[str]:
    """Return where the machines meet. Refused where several have no place for that."""
    if machines == 1:
        return ["--standalone"]
    if launch["rdzv_endpoint"] is None:
        message = f"{machines} machines are to train, and nothing says where they meet"
        help_text = "write `rdzv_endpoint: HOST:PORT` of one of them under launch"
        raise Refused(Diagnostic("SG505", message, help=help_text))
    keys = ("rdzv_endpoint", "rdzv_backend", "rdzv_id")
    words = [word for key in keys for word in (f"--{key.replace('_', '-')}", launch[key])]
    return ["--nnodes", str(machines), *words]
