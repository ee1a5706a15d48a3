"""`silogen check`: what is wrong with configs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from silogen_compiler.commands.options import compile_options
from silogen_compiler.commands.report import EXIT_ERRORS, count, report_findings
from silogen_compiler.pipeline import compile_file

# What reads the data: a part of the runtime, imported only when it is asked for.
CHECK_DATA = "silogen_runtime.check_data"


@click.command()
@click.argument("configs", nargs=-1, required=True)
@click.option("--data", is_flag=True, help="Read the data too, and print what it becomes; needs no GPU.")
@compile_options
def check(configs: tuple[str, ...], *, data: bool, **options: Any) -> None:
    """Check each of CONFIGS and print what is wrong with it."""
    results = [compile_file(config, **options) for config in configs]
    for compiled in results:
        report_findings(compiled.diagnostics, compiled.sources)
    failed = sum(compiled.resolved is None for compiled in results)
    if data:
        check_data = import_module(CHECK_DATA).check_data
        failed += sum(not check_data(compiled.resolved) for compiled in results if compiled.resolved)
    click.echo(f"{count(len(results), 'config')} checked, {failed} with errors", err=True)
    if failed:
        sys.exit(EXIT_ERRORS)
