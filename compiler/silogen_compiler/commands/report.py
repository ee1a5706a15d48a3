"""How a command ends: its findings printed, and its exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from silogen_compiler.diagnostics import has_errors

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic

EXIT_ERRORS, EXIT_USAGE, EXIT_CHECK, EXIT_FAILED = 1, 2, 3, 4


def report_findings(diagnostics: list[Diagnostic], sources: dict[str, str]) -> None:
    """Print findings to standard error, with a line that counts them where there are errors."""
    if not diagnostics:
        return
    from silogen_compiler.render.text import render_text  # noqa: PLC0415 - start-up time

    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    click.echo(render_text(diagnostics, sources, color=color), err=True, nl=False)
    if has_errors(diagnostics):
        errors = sum(d.severity == "error" for d in diagnostics)
        warnings = len(diagnostics) - errors
        also = f", {count(warnings, 'warning')}" if warnings else ""
        click.echo(f"{count(errors, 'error')}{also}", err=True)


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 error`, `2 errors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def write_output(name: str | None, text: str) -> None:
    """Print `text`, or write it to the file `name`, whole or not at all; `-` is standard output."""
    if name in (None, "-"):
        click.echo(text, nl=False)
        return
    from silogen_compiler.files import write_whole  # noqa: PLC0415 - only with --output

    try:
        write_whole(name, text)
    except OSError as error:
        click.echo(f"cannot write {name}: {error.strerror}", err=True)
        sys.exit(EXIT_FAILED)
