"""Checking many configs, in several processes where that is faster."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, has_errors
from silogen_compiler.pipeline import compile_file
from silogen_compiler.search import Candidate, is_config

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fewer files than this are checked before other processes have started.
FEW = 8


class Checked(NamedTuple):
    """A file with its findings, and the text of the files they are about.

    `layers` are the files that were read; without any the file is no config and was skipped.
    """

    name: str
    is_named: bool
    diagnostics: list[Diagnostic]
    sources: dict[str, str]
    layers: tuple[str, ...]
    is_skipped: bool = False

    @property
    def has_errors(self) -> bool:
        return has_errors(self.diagnostics)


def check_many(files: list[Candidate], jobs: int | None = None, **options: Any) -> Iterator[Checked]:
    """Yield what is wrong with each file, in the order of `files`.

    `jobs` is the number of processes, by default one a processor. `options` are those of `compile_file`.
    """
    check = partial(check_one, options=options)
    jobs = jobs or processors()
    if jobs == 1 or len(files) <= FEW or any(file.name == "-" for file in files):
        yield from map(check, files)
        return
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 - start-up time

    with ProcessPoolExecutor(min(jobs, len(files)), initializer=_leave_interrupts) as workers:
        yield from workers.map(check, files, chunksize=max(len(files) // (jobs * 8), 1))


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_one(file: Candidate, *, options: dict[str, Any]) -> Checked:
    """Return what is wrong with one file, or that it is no config."""
    if not file.is_named and not is_config(file.name):
        return Checked(*file, [], {}, (), is_skipped=True)
    compiled = compile_file(file.name, **options)
    sources = compiled.sources if compiled.diagnostics else {}
    return Checked(*file, compiled.diagnostics, sources, tuple(compiled.sources))


def _leave_interrupts() -> None:
    """Have Ctrl-C end the command in its own process alone, without a traceback from each other one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
