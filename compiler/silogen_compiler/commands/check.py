"""`silogen check`: what is wrong with configs."""

from __future__ import annotations

import os.path
import sys
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from silogen_compiler.check_many import check_many
from silogen_compiler.commands.fix import diff_option, fixable, run_fix, unsafe_option
from silogen_compiler.commands.options import compile_options, config_files, report_options
from silogen_compiler.commands.report import EXIT_ERRORS, Report, count
from silogen_compiler.pipeline import compile_file
from silogen_compiler.search import find_files, is_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from silogen_compiler.check_many import Checked
    from silogen_compiler.diagnostics import Diagnostic

PATIENCE = 1.0  # seconds without a word on a terminal

# What reads the data: a part of the runtime, imported only when it is asked for.
CHECK_DATA = "silogen_runtime.check_data"


@click.command()
@config_files
@compile_options
@click.option("--data", is_flag=True, help="Read the data too, and print what it becomes; needs no GPU.")
@click.option("--fix", is_flag=True, help="Mend what can be mended, as `silogen fix`.")
@unsafe_option
@diff_option
@report_options
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Processes; by default one a processor."
)
def check(  # noqa: PLR0913 - options of a command
    configs: tuple[str, ...],
    report: Report,
    jobs: int | None,
    *,
    data: bool,
    fix: bool,
    unsafe: bool,
    diff: bool,
    **options: Any,
) -> None:
    """Check each of CONFIGS, files and folders, and print what is wrong with it.

    In folders, files that end in .yaml, .yml, .toml or .json and hold a section of a config are checked; one
    that another file extends is checked as a part of that. Forms other than text go to standard output.
    """
    files = find_files(configs)
    if fix or diff:
        names = tuple(file.name for file in files if file.is_named or is_config(file.name))
        run_fix(names, unsafe=unsafe, diff=diff, **options)
        return
    results = list(_counted(check_many(files, jobs, **options), len(files)))
    checked = [result for result in without_layers(results) if not result.is_skipped]
    sources = {name: text for result in checked for name, text in result.sources.items()}
    report.show(findings(checked), sources, to_output=True)
    if report.form == "text" and (mendable := fixable(findings(checked))):
        click.echo(mendable, err=True)
    click.echo(_summary(checked, sum(result.is_skipped for result in results)), err=True)
    fine = [result.name for result in checked if not result.has_errors]
    if len(fine) < len(checked) or (data and not _data_train(fine, **options)):
        sys.exit(EXIT_ERRORS)


def _data_train(names: list[str], **options: Any) -> bool:
    """Print what the data of each config become; return whether all can be trained on."""
    check_data = import_module(CHECK_DATA).check_data
    return all([check_data(compile_file(name, **options).resolved) for name in names])  # noqa: C419 - every one is shown


def without_layers(results: list[Checked]) -> list[Checked]:
    """Return the results without files found in folders that another file extends."""
    extended = {os.path.realpath(name) for result in results for name in result.layers if name != result.name}
    return [r for r in results if r.is_named or os.path.realpath(r.name) not in extended]


def findings(checked: Iterable[Checked]) -> list[Diagnostic]:
    """Return the findings about all files; one about a file that several extend is there once."""
    found: dict[tuple[object, ...], Diagnostic] = {}
    for result in checked:
        for finding in result.diagnostics:
            found.setdefault((finding.code, finding.message, finding.span or finding.file), finding)
    return list(found.values())


def _summary(checked: list[Checked], skipped: int) -> str:
    folders = {os.path.dirname(result.name) for result in checked if not result.is_named}  # noqa: PTH120
    failed = sum(result.has_errors for result in checked)
    warned = sum(bool(result.diagnostics) and not result.has_errors for result in checked)
    numbers = {"with errors": failed, "with warnings": warned}
    parts = [f"{number:,} {what}" for what, number in numbers.items() if number] or ["no findings"]
    parts += [f"{count(skipped, 'file')} skipped"] if skipped else []
    where = f" in {count(len(folders), 'folder')}" if folders else ""
    return f"{count(len(checked), 'config')} checked{where}: {', '.join(parts)}"


def _counted(results: Iterator[Checked], total: int) -> Iterator[Checked]:
    """Pass results on; where that takes long, a line on the terminal counts them."""
    start, is_shown = monotonic(), False
    for number, result in enumerate(results, 1):
        if sys.stderr.isatty() and monotonic() - start > PATIENCE:
            is_shown = True
            click.echo(f"\r{number:,} of {count(total, 'file')}", err=True, nl=False)
        yield result
    if is_shown:
        click.echo("\r\033[K", err=True, nl=False)
