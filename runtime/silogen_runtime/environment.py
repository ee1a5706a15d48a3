"""What a run reads from the process environment, and what it puts there for the libraries."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_compiler.diagnostics import Findings
    from silogen_config import ResolvedConfig

REFERENCE = re.compile(r"\$\{env:(\w+)\}")

# What a launcher tells each process, with the least number that each variable can be.
LAUNCHER = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": -1}
GROUP = ("RANK", "MASTER_ADDR", "MASTER_PORT")
NUMBER = re.compile(r"-?[0-9]{1,9}")

# Settings of MLflow's client, where the environment has no others: it gives up in seconds, and is quiet.
MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the credentials in it
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def check_launcher() -> Findings:
    """Yield what is wrong with the variables of the launcher; the functions below take them as they are."""
    values = {name: os.environ[name] for name in LAUNCHER if name in os.environ}
    wrong = [name for name, value in values.items() if not _is_number(value, LAUNCHER[name])]
    for name in wrong:
        problem = f"`{name}` is `{values[name]}`, not a whole number from {LAUNCHER[name]} on"
        yield Diagnostic("SG733", problem, help=f"start with `torchrun`, or `unset {name}`")
    if not wrong:
        yield from _check_group(int(values.get("RANK", "0")))
    machines = os.environ.get("PET_NNODES")  # torchrun takes `2:4`, and tells its processes LOCAL_RANK
    if machines and "LOCAL_RANK" not in os.environ and not _is_number(machines, 1):
        problem = f"`PET_NNODES` is `{machines}`, and a config is resolved for one number of machines"
        yield Diagnostic("SG733", problem, help="write a fixed number, or start with `torchrun`")


def world_size() -> int:
    """Return the number of processes that the launcher says it started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def set_environment(config: ResolvedConfig) -> None:
    """Set the variables that the libraries read in place of an argument, and none beside them."""
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)  # of `accelerate launch`; the config decides
    os.environ.update(config.trainer.environment)
    for name, value in MLFLOW.items() if config.tracking else ():
        os.environ.setdefault(name, value)


def fill_references(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return `kwargs` with the variable's value for each "${env:NAME}". Refused where it is not set."""
    return {key: _fill(key, value) for key, value in kwargs.items()}


def _check_group(rank: int) -> Findings:
    """Yield what is missing for the processes to find each other."""
    missing = [name for name in GROUP if name not in os.environ] if world_size() > 1 else []
    if missing:
        problem = f"`WORLD_SIZE` is {world_size()}, but no launcher set {', '.join(missing)}"
        yield Diagnostic("SG733", problem, help="start with `torchrun`, or `unset WORLD_SIZE`")
    if rank >= world_size():
        problem = f"`RANK` is {rank}, but `WORLD_SIZE` is {world_size()}, and ranks count from 0"
        yield Diagnostic("SG733", problem, help="start with `torchrun`, or `unset RANK`")


def _is_number(text: str, least: int) -> bool:
    return bool(NUMBER.fullmatch(text)) and int(text) >= least


def _fill(key: str, value: object) -> object:
    match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return value
    if match[1] not in os.environ:
        raise Refused(
            Diagnostic(
                "SG711",
                f"the environment variable `{match[1]}` for `{key}` is not set",
                help=f"`export {match[1]}=…` before the run, or remove `{key}`",
            ),
        )
    return os.environ[match[1]]


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the time of the block."""
    earlier = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if earlier is None:
            del os.environ[name]
        else:
            os.environ[name] = earlier
