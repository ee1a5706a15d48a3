"""Which launcher started this process, if one did: torchrun, accelerate, SLURM or Kubernetes."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

# SLURM's variables of a step, each with those that say the same where it is missing.
SLURM_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
SLURM_MACHINES = ("SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
SLURM_NAMES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")

# The first name of SLURM's short form: `node[003-007,012]-ib,login1` begins with `node003-ib`.
FIRST_NAME = re.compile(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?")
LOWEST_PORT, PORTS = 20000, 20000


class Place(NamedTuple):
    """The place of this process among those that a launcher started.

    `machines` is their number where each got one process, which may start more; None where all are started.
    """

    rank: int
    world_size: int
    local_rank: int
    address: str
    port: str
    machines: int | None = None


def find_place() -> Place | None:
    """Return the place that a launcher gave this process; None where a person started it."""
    if "LOCAL_RANK" in os.environ:
        return _place(int(os.environ["LOCAL_RANK"]))
    if "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ:  # a batch script is no step
        return _slurm()
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return _kubernetes()
    return None


def take(place: Place) -> None:
    """Tell the libraries this process's place in the variables that they read, where torchrun did not."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of what transformers asks it for
    if "LOCAL_RANK" in os.environ:
        return
    os.environ.update(
        RANK=str(place.rank),
        WORLD_SIZE=str(place.world_size),
        LOCAL_RANK=str(place.local_rank),
        MASTER_ADDR=place.address,
        MASTER_PORT=place.port,
    )


def first_name(names: str) -> str:
    """Return the first machine of a list in SLURM's short form."""
    match = FIRST_NAME.match(names)
    return "".join(part or "" for part in match.groups()) if match else ""


def _place(local_rank: int) -> Place:
    """Return the place that torchrun's variables tell."""
    number = {name: int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1))}
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    return Place(number["RANK"], number["WORLD_SIZE"], max(local_rank, 0), address, port)


def _slurm() -> Place:
    tasks, machines = int(_first(SLURM_TASKS, "1")), int(_first(SLURM_MACHINES, "0"))
    job = int(os.environ.get("SLURM_JOB_ID", "0"))
    return Place(
        rank=int(os.environ["SLURM_PROCID"]),
        world_size=tasks,
        local_rank=int(os.environ.get("SLURM_LOCALID", "0")),
        address=os.environ.get("MASTER_ADDR") or first_name(_first(SLURM_NAMES, "")) or "localhost",
        port=os.environ.get("MASTER_PORT") or str(LOWEST_PORT + job % PORTS),
        machines=machines if machines == tasks else None,
    )


def _kubernetes() -> Place:
    """Return the place of a pod, of which WORLD_SIZE counts the processes, and RANK the pods."""
    place = _place(0)
    return place._replace(machines=int(os.environ.get("PET_NNODES") or place.world_size))


def _first(names: tuple[str, ...], default: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), default)
