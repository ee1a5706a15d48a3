"""`silogen check`: what is wrong with configs."""

from __future__ import annotations

import sys
from typing import Any

import click

from silogen_compiler.commands.fix import diff_option, fixable, run_fix, unsafe_option
from silogen_compiler.commands.options import compile_options
from silogen_compiler.commands.report import EXIT_ERRORS, count, report_findings
from silogen_compiler.pipeline import compile_file


@click.command()
@click.argument("configs", nargs=-1, required=True)
@click.option("--fix", is_flag=True, help="Mend what can be mended, as `silogen fix`.")
@unsafe_option
@diff_option
@compile_options
def check(configs: tuple[str, ...], *, fix: bool, unsafe: bool, diff: bool, **options: Any) -> None:
    """Check each of CONFIGS and print what is wrong with it."""
    if fix or diff:
        run_fix(configs, unsafe=unsafe, diff=diff, **options)
        return
    results = [compile_file(config, **options) for config in configs]
    for compiled in results:
        report_findings(compiled.diagnostics, compiled.sources)
    failed = sum(compiled.resolved is None for compiled in results)
    click.echo(f"{count(len(results), 'config')} checked, {failed} with errors", err=True)
    if mendable := fixable([d for compiled in results for d in compiled.diagnostics]):
        click.echo(mendable, err=True)
    if failed:
        sys.exit(EXIT_ERRORS)
