"""`--lock` and `--locked`: writing the lock beside a config, and refusing a run that drifted from it."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from silogen_compiler.commands.report import EXIT_CHECK, EXIT_FAILED, count, report_findings, write_output
from silogen_compiler.diagnostics import Refused
from silogen_compiler.lock import drift, files_of, lock_name, lock_text, make_lock, read_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from silogen_compiler.pipeline import Compiled

LARGE = 64 * 1024 * 1024  # bytes from which on hashing shows a bar


def write_lock(configs: tuple[str, ...], compiled: Compiled) -> None:
    """Write the lock beside the last of the configs."""
    name = _name(configs)
    assert compiled.resolved is not None
    schema = str(compiled.config.data["apiVersion"]) if compiled.config else ""
    try:
        with _bar(compiled) as on_bytes:
            lock = make_lock(compiled.resolved, schema, on_bytes)
    except Refused as refused:
        report_findings(list(refused.diagnostics), compiled.sources)
        sys.exit(EXIT_FAILED)
    write_output(name, lock_text(lock))
    hashed = sum(value is not None for value in lock["files"].values())
    missing = [file for file, value in lock["files"].items() if value is None]
    elsewhere = [model["name"] for model in lock["not_local"]]
    also = f"; not local: {', '.join([*missing, *elsewhere])}" if missing or elsewhere else ""
    click.echo(f"wrote {name}: {count(hashed, 'file')}{also}", err=True)


def require_lock(configs: tuple[str, ...], compiled: Compiled) -> None:
    """End the command with what differs from the lock beside the last of the configs, if anything does."""
    try:
        lock = read_lock(_name(configs))
        with _bar(compiled) as on_bytes:
            found = drift(lock, compiled, on_bytes)
    except Refused as refused:
        found = list(refused.diagnostics)
    if found:
        report_findings(found, compiled.sources)
        sys.exit(EXIT_CHECK)


def _name(configs: tuple[str, ...]) -> str:
    if configs[-1] == "-":
        raise click.UsageError("a lock stands beside a file; standard input has none")
    return lock_name(configs[-1])


@contextmanager
def _bar(compiled: Compiled) -> Iterator[Callable[[int], None]]:
    """Yield what shows the progress of hashing: a bar on a terminal where the files are large."""
    names = files_of(compiled.resolved or {})
    total = sum(os.path.getsize(name) for name in names if os.path.isfile(name))  # noqa: PTH113, PTH202
    if total < LARGE or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label="Hashing files", file=sys.stderr) as bar:
        yield bar.update
