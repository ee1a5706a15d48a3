"""`silogen compile`: from a config to the resolved config."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from silogen_compiler.commands.options import compile_options, config_files, report_options
from silogen_compiler.commands.report import EXIT_ERRORS, Report, write_output
from silogen_compiler.emit import FORMATS
from silogen_compiler.pipeline import compile_file


@click.command("compile")
@config_files
@compile_options
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    default="yaml",
    show_default=True,
    help="Form of the resolved config.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help="Write to this file, whole or not at all; - is standard output.",
)
@report_options
def compile_command(
    configs: tuple[str, ...], format_name: str, output: str | None, report: Report, **options: Any
) -> None:
    """Resolve a config (YAML, TOML or JSON; - for standard input) and print the resolved config.

    Of several CONFIGS, each goes over those before it: objects merge, lists and other values replace.
    Findings go to standard error. Neither data nor model have to exist.
    """
    refuse_same_file(output, configs)
    compiled = compile_file(*configs, **options)
    report.show(compiled.diagnostics, compiled.sources)
    if compiled.resolved is None:
        sys.exit(EXIT_ERRORS)
    write_output(output, FORMATS[format_name](compiled.resolved, compiled.origins))


def refuse_same_file(output: str | None, configs: tuple[str, ...]) -> None:
    """Refuse an output that would replace one of the configs."""
    for config in configs:
        if output and os.path.exists(output) and os.path.exists(config) and os.path.samefile(output, config):  # noqa: PTH110, PTH121
            raise click.UsageError(f"the output would replace the config {config}")
