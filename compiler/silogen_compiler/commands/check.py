"""`silogen check`: what is wrong with configs."""

from __future__ import annotations

import sys
from typing import Any

import click

from silogen_compiler.commands.options import compile_options
from silogen_compiler.commands.report import EXIT_ERRORS, count, report_findings
from silogen_compiler.pipeline import compile_file


@click.command()
@click.argument("configs", nargs=-1, required=True)
@compile_options
def check(configs: tuple[str, ...], **options: Any) -> None:
    """Check each of CONFIGS and print what is wrong with it."""
    results = [compile_file(config, **options) for config in configs]
    for compiled in results:
        report_findings(compiled.diagnostics, compiled.sources)
    failed = sum(compiled.resolved is None for compiled in results)
    click.echo(f"{count(len(results), 'config')} checked, {failed} with errors", err=True)
    if failed:
        sys.exit(EXIT_ERRORS)
