"""How a command ends: its findings printed, and its exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, TextIO

import click

from silogen_compiler.diagnostics import has_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.diagnostics import Diagnostic

EXIT_ERRORS, EXIT_USAGE, EXIT_CHECK, EXIT_FAILED = 1, 2, 3, 4

# Columns of text: below the least a source line shows nothing, above the most it is hard to read.
LEAST_WIDTH, USUAL_WIDTH, MOST_WIDTH = 60, 100, 140
MARGIN = len("99999 | ")


class Report(NamedTuple):
    """How a command shows its findings: the form, and how many at most (0 for all) where people read them."""

    form: str = "text"
    limit: int = 50

    def show(
        self, diagnostics: Sequence[Diagnostic], sources: dict[str, str], *, to_output: bool = False
    ) -> None:
        """Print findings: text to standard error, other forms there as well or `to_output`.

        A document is printed without findings too; text with errors ends in a line that counts.
        """
        from silogen_compiler.render import renderer  # noqa: PLC0415 - start-up time

        if self.form != "text":
            click.echo(renderer(self.form)(list(diagnostics), sources), err=not to_output, nl=False)
        elif diagnostics:
            self._show_text(diagnostics, sources)

    def _show_text(self, diagnostics: Sequence[Diagnostic], sources: dict[str, str]) -> None:
        from silogen_compiler.render.text import render_text  # noqa: PLC0415 - start-up time

        color = has_color(sys.stderr)
        shown = first(diagnostics, self.limit)
        click.echo(
            render_text(shown, sources, color=color, width=width(sys.stderr)), err=True, nl=False, color=color
        )
        if hidden := len(diagnostics) - len(shown):
            click.echo(f"{count(hidden, 'more finding')}; --error-limit 0 shows all", err=True)
        if has_errors(list(diagnostics)):
            click.echo(tally(diagnostics), err=True)


def report_findings(diagnostics: Sequence[Diagnostic], sources: dict[str, str]) -> None:
    """Print findings as text to standard error."""
    Report().show(diagnostics, sources)


def first(diagnostics: Sequence[Diagnostic], limit: int) -> list[Diagnostic]:
    """Return at most `limit` findings in their order; where some are left out, warnings are before errors."""
    if not limit or len(diagnostics) <= limit:
        return list(diagnostics)
    by_weight = sorted(range(len(diagnostics)), key=lambda index: diagnostics[index].severity != "error")
    return [diagnostics[index] for index in sorted(by_weight[:limit])]


def tally(diagnostics: Sequence[Diagnostic]) -> str:
    """Return how many findings there are: `1 error, 2 warnings`."""
    errors = sum(d.severity == "error" for d in diagnostics)
    numbers = {"error": errors, "warning": len(diagnostics) - errors}
    return ", ".join(count(number, noun) for noun, number in numbers.items() if number)


def has_color(stream: TextIO) -> bool:
    """Return whether to colour text for `stream`: as the environment asks, or where it is a terminal."""
    environment = os.environ
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR") or environment.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


def columns(stream: TextIO) -> int:
    """Return the width of the terminal that `stream` is; 0 for what is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


def width(stream: TextIO) -> int:
    """Return the columns for text: those of the terminal within limits, or the usual ones without one."""
    wide = columns(stream)
    return min(max(wide - MARGIN, LEAST_WIDTH), MOST_WIDTH) if wide else USUAL_WIDTH


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
