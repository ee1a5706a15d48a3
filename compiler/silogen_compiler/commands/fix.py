"""`silogen fix`: what can be mended, mended in the file itself."""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from silogen_compiler.commands.options import compile_options
from silogen_compiler.commands.report import (
    EXIT_CHECK,
    EXIT_ERRORS,
    EXIT_FAILED,
    count,
    has_color,
    report_findings,
    write_output,
)
from silogen_compiler.diagnostics import Refused
from silogen_compiler.load import read_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_compiler.diagnostics import Diagnostic
    from silogen_compiler.fix import Fixed

COLORS = {"+": "green", "-": "red", "@": "cyan"}
BOM = "\ufeff".encode()

unsafe_option = click.option("--unsafe", is_flag=True, help="Make fixes that guess what was meant as well.")
diff_option = click.option(
    "--diff", is_flag=True, help="Print what would change and write nothing; exit with 3 if anything would."
)


@click.command()
@click.argument("configs", nargs=-1, required=True)
@unsafe_option
@diff_option
@compile_options
def fix(configs: tuple[str, ...], *, unsafe: bool, diff: bool, **options: Any) -> None:
    """Mend what can be mended in each of CONFIGS, in the file itself, and print what is left.

    Comments, quotes and order stay as they are, and so does what a config resolves to. The text of standard
    input (-) is printed.
    """
    run_fix(configs, unsafe=unsafe, diff=diff, **options)


def run_fix(configs: tuple[str, ...], *, unsafe: bool, diff: bool, **options: Any) -> None:
    """Fix the configs, or show how, and end with the command's exit code."""
    from silogen_compiler.fix import fix_configs  # noqa: PLC0415 - `check` has this module too

    result = fix_configs(configs, unsafe=unsafe, **options)
    if diff:
        _print_diff(result)
        click.echo(f"{_tally(result, 'would be fixed')}, nothing written", err=True)
        sys.exit(EXIT_CHECK if result.texts else 0)
    write_fixed(result)
    if "-" in configs:
        _print_input(result)
    click.echo("\n".join([*_summaries(result), ""]), err=True, nl=False)
    for compiled in result.compiled:
        report_findings(compiled.diagnostics, compiled.sources)
    click.echo(_tally(result, "fixed"), err=True)
    if any(compiled.resolved is None for compiled in result.compiled):
        sys.exit(EXIT_ERRORS)


def fixable(diagnostics: list[Diagnostic]) -> str:
    """Return how many findings `silogen fix` mends, in words, or an empty text."""
    kinds = Counter(d.fix.is_safe for d in diagnostics if d.fix)
    found = [(kinds[True], "silogen fix"), (kinds[False], "silogen fix --unsafe")]
    return ", ".join(f"{number:,} fixable with {command}" for number, command in found if number)


def _tally(result: Fixed, verb: str) -> str:
    return f"{count(len(result.fixed), 'finding')} {verb}, {len(result.left):,} left"


def _summaries(result: Fixed) -> Iterator[str]:
    """Yield a line for each file with how many findings are fixed, and one for each fix."""
    from silogen_compiler.render.fixes import describe_edits  # noqa: PLC0415 - only where something is fixed

    for file in dict.fromkeys(finding.file for finding in [*result.fixed, *result.left]):
        fixed = [finding.diagnostic for finding in result.fixed if finding.file == file]
        yield f"{file}: {len(fixed):,} fixed, {_left(file, result)}"
        yield from (f"  {d.code} {describe_edits(d.fix)}" for d in fixed if d.fix)


def _left(file: str, result: Fixed) -> str:
    """Return how many findings of a file are left, and why fixes are."""
    left = [finding for finding in result.left if finding.file == file]
    refused = [finding for finding in result.refused if finding.file == file]
    guesses = [f for f in left if f.diagnostic.fix and not f.is_safe and f not in refused]
    reasons = [
        (len(guesses), "fixable with --unsafe"),
        (len(refused), "whose fix would change the resolved config or bring a new error"),
    ]
    text = ", ".join(f"{number:,} {reason}" for number, reason in reasons if number)
    return f"{len(left):,} left{f' ({text})' if text else ''}"


def write_fixed(result: Fixed) -> None:
    """Write the files that change, each whole or not at all."""
    for name, (before, after) in result.texts.items():
        if name != "-":
            write_output(name, _mark(name, before) + after)


def _print_input(result: Fixed) -> None:
    """Print the text of standard input with its fixes."""
    texts = [compiled.sources["-"] for compiled in result.compiled if "-" in compiled.sources]
    click.echo(texts[0] if texts else "", nl=False)


def _mark(name: str, before: str) -> str:
    """Return the byte order mark that the file starts with; a file changed by somebody else is left alone."""
    try:
        if read_source(name) != before:
            click.echo(f"{name} has changed meanwhile; nothing is written to it", err=True)
            sys.exit(EXIT_FAILED)
    except Refused as refused:
        report_findings(list(refused.diagnostics), {})
        sys.exit(EXIT_FAILED)
    with open(name, "rb") as file:  # noqa: PTH123 - as the reader does
        return BOM.decode() if file.read(len(BOM)) == BOM else ""


def _print_diff(result: Fixed) -> None:
    import difflib  # noqa: PLC0415 - only here

    color = has_color(sys.stdout)
    for name, (before, after) in result.texts.items():
        lines = difflib.unified_diff(_lines(before), _lines(after), name, name)
        for line in lines:
            ended = line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            click.echo(click.style(ended, COLORS.get(ended[0])) if color else ended, nl=False)


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)
