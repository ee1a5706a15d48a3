"""Several processes: which ones a run needs on this machine, and torchrun, which starts and watches them."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import psutil
from silogen_compiler.commands.report import EXIT_FAILED
from silogen_compiler.diagnostics import Diagnostic, Refused

from silogen_runtime.signals import ASKING, Signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

    from silogen_runtime.launchers import Place

PATIENCE = 20  # seconds after a failure; from 30 on torchrun kills the processes that it could not stop
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # where torchrun looks for what a process that failed has to say
OURS = "SILOGEN_STARTED"  # set for the processes that are started here: what they record is shown here
NEED_A_GROUP = ("deepspeed", "fsdp")  # strategies that are no other for a single process
STOPPED = {128 + number for number in ASKING}  # exit codes of processes that stopped at a signal
TAIL, WIDTH = 20, 200  # lines, and characters of each, of the log of a process that died without a word

Resolved = dict[str, Any]


class Group(NamedTuple):
    """The processes to start on this machine, and where it meets the others."""

    machines: int
    processes: int
    endpoint: str
    backend: str = "c10d"
    run_id: str = "silogen"
    rank: int | None = None


class Ended(Exception):  # noqa: N818 - not always an error
    """The processes of a run ended early: by a signal to all, or since one failed, with what it said."""

    def __init__(self, exit_code: int, heading: str = "", findings: tuple[Diagnostic, ...] = ()) -> None:
        super().__init__(heading)
        self.exit_code = exit_code
        self.heading = heading
        self.findings = findings


def processes_here(launch: Resolved, place: Place | None, *, use_cpu: bool) -> int:
    """Return how many processes this machine trains with, by the launcher, the config, or its GPUs."""
    wanted = launch.get("processes_per_node", 1)
    if wanted == "auto":
        return 1 if use_cpu else max(devices(), 1)
    started = place.world_size // place.machines if place and place.machines else 1
    return int(wanted) if wanted > 1 else max(started, 1)


def devices() -> int:
    """Return the number of GPUs of this machine."""
    import torch  # noqa: PLC0415 - only where GPUs are counted

    return torch.accelerator.device_count()


def group_of(resolved: Resolved, place: Place | None) -> Group | None:
    """Return the processes to start; None where this one trains. Refused where they can't be started."""
    launch = resolved["launch"]
    machines = place.machines if place else launch.get("nodes", 1)
    if machines is None:
        return None
    if launch["world_size"] % machines:
        message = f"the config is resolved for {launch['world_size']} processes on {machines} machines"
        raise Refused(Diagnostic("SG702", message, help="compile with a `--world-size` that they divide"))
    processes = launch["world_size"] // machines
    if processes == 1 and (place or (machines == 1 and launch["strategy"] not in NEED_A_GROUP)):
        return None
    refuse_missing_devices(processes, use_cpu=resolved["trainer"]["args"]["use_cpu"])
    if place:
        return Group(machines, processes, f"{place.address}:{place.port}", "static", rank=place.rank)
    if machines == 1:
        return Group(1, processes, "localhost:0", run_id=str(os.getpid()))
    return Group(machines, processes, _endpoint(launch), launch["rdzv_backend"], launch["rdzv_id"])


def refuse_missing_devices(processes: int, *, use_cpu: bool) -> None:
    present = 0 if use_cpu else devices()
    if 0 < present < processes:
        message = f"{processes} processes are to train here, each on its GPU, and there are {present}"
        raise Refused(Diagnostic("SG742", message, help="write `processes_per_node: auto`, or less"))


def _endpoint(launch: Resolved) -> str:
    endpoint: str | None = launch["rdzv_endpoint"]
    if endpoint is None:
        message = f"{launch['nodes']} machines are to train, and nothing says where they meet"
        raise Refused(Diagnostic("SG743", message, help="write `rdzv_endpoint: HOST:PORT` of one of them"))
    return endpoint


def run_processes(resolved: Resolved, group: Group, options: Sequence[str] = ()) -> None:
    """Train with several processes, each with the command's `options`. Ended where they end early.

    The first SIGINT or SIGTERM is passed on to them, which save a checkpoint; the second ends them at once.
    """
    from torch.distributed.elastic.multiprocessing import SignalException  # noqa: PLC0415 - only for several
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import elastic_launch  # noqa: PLC0415

    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // group.processes, 1)))
    with (
        TemporaryDirectory(prefix="silogen-") as folder,
        _started_here(),
        Signals(_pass_on, _end_all) as signals,
    ):
        path = Path(folder, "resolved.json")
        path.write_text(json.dumps(resolved), "utf-8")
        try:
            elastic_launch(_torchrun(group, folder), sys.executable)(
                *("-m", __package__, str(path), *options)
            )
        except ChildFailedError as error:
            rank, failure = first_to_fail(error.failures)
            ended = _ended(failure, rank, resolved["launch"]["world_size"], Path(folder))
            raise _stopped(signals.number, failure) or ended from None
        except SignalException as stop:
            raise Ended(128 + stop.sigval) from None


def _pass_on(number: int) -> None:
    """Send a signal to the processes; before there are any, it ends the run."""
    children = psutil.Process().children()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)
    if not children:
        _end_all(number)


def _end_all(number: int) -> NoReturn:
    from torch.distributed.elastic.multiprocessing import SignalException  # noqa: PLC0415 - only for several

    raise SignalException("stopped", signal.Signals(number))  # torchrun ends its processes at this


def _stopped(number: int, failure: ProcessFailure) -> Ended | None:
    """Return how a run ended at a signal, `number`, or at one that its processes heard; None if it failed."""
    if failure.error_file_data.get("findings"):
        return None
    if number:
        return Ended(128 + number)
    return Ended(failure.exitcode) if failure.exitcode in STOPPED else None


def _torchrun(group: Group, folder: str) -> LaunchConfig:
    """Return what torchrun is told: one process shows what it prints, the others keep it in files."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig  # noqa: PLC0415

    return LaunchConfig(
        min_nodes=group.machines,
        max_nodes=group.machines,
        nproc_per_node=group.processes,
        run_id=group.run_id,
        rdzv_backend=group.backend,
        rdzv_endpoint=group.endpoint,
        rdzv_configs={} if group.rank is None else {"rank": group.rank},
        max_restarts=0,
        signals_to_handle="SIGHUP,SIGQUIT",  # others reach the processes, which save a checkpoint first
        logs_specs=DefaultLogsSpecs(folder, dict.fromkeys(range(1, group.processes), Std.ALL)),
    )


@contextmanager
def _started_here() -> Iterator[None]:
    """Mark the processes as started here, and keep torchrun from telling what is told here."""
    os.environ[OURS] = "1"
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        del os.environ[OURS]


def record(findings: tuple[Diagnostic, ...]) -> bool:
    """Leave for torchrun what this process failed of; return whether anyone will show it."""
    path = os.environ.get(ERROR_FILE)
    if path:
        text = "\n".join(f"{found.code}: {found.message}" for found in findings)
        listed = [[found.code, found.message, found.help, found.file] for found in findings]
        data = {"message": text, "timestamp": int(time.time()), "time": time.time(), "findings": listed}
        Path(path).write_text(json.dumps(data), "utf-8")
    return path is not None


def is_shown_by_parent() -> bool:
    """Tell whether the process that started this one shows what it records."""
    return OURS in os.environ and ERROR_FILE in os.environ


def first_to_fail(failures: dict[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """Return the failure that the others follow from, with the number of its process.

    A process that something else killed comes first, then the one that failed earliest: others lose their
    connection to it. Those that torchrun itself stopped come last, with SIGKILL where SIGTERM was not heard.
    """
    earliest = min(map(_failed_at, failures.values()))

    def order(item: tuple[int, ProcessFailure]) -> tuple[int, float]:
        code, at = item[1].exitcode, _failed_at(item[1])
        is_stopped = code == -signal.SIGTERM or (code < 0 and at > earliest + PATIENCE)
        return 2 if is_stopped else 0 if code < 0 else 1, at

    return min(failures.items(), key=order)


def _failed_at(failure: ProcessFailure) -> float:
    """Return when a process failed, in seconds since 1970."""
    return float(failure.error_file_data.get("time", failure.timestamp))


def _ended(failure: ProcessFailure, rank: int, world_size: int, folder: Path) -> Ended:
    listed = failure.error_file_data.get("findings", [])
    findings = tuple(
        Diagnostic(code, message, help=help_text, file=file) for code, message, help_text, file in listed
    )
    heading = [f"process {rank} of {world_size} failed; the others were stopped"] * (world_size > 1)
    if findings:
        return Ended(EXIT_FAILED, "\n".join(heading), findings)
    return Ended(EXIT_FAILED, "\n".join([*heading, *_last_lines(failure, folder)]), (_death(failure, rank),))


def _death(failure: ProcessFailure, rank: int) -> Diagnostic:
    """Return what is known of a process that could not tell itself."""
    if failure.exitcode >= 0:
        return Diagnostic("SG744", f"process {rank} ended with exit code {failure.exitcode}")
    is_memory = failure.exitcode == -signal.SIGKILL
    help_text = "the system does so when memory runs out" if is_memory else ""
    return Diagnostic("SG744", f"process {rank} was killed by {failure.signal_name()}", help=help_text)


def _last_lines(failure: ProcessFailure, folder: Path) -> list[str]:
    """Return the end of the log of a process, with a line that says so; [] where it went to the screen."""
    logs = list(folder.glob(f"**/attempt_0/{failure.local_rank}/stderr.log"))
    lines = logs[0].read_text("utf-8", "replace").strip().splitlines()[-TAIL:] if logs else []
    return ["the end of what it printed:", *(f"  {line[:WIDTH]}" for line in lines)] if lines else []
