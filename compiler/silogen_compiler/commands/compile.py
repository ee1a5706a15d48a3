"""`silogen compile`: from a config to the resolved config."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from silogen_compiler.commands.options import compile_options
from silogen_compiler.commands.report import EXIT_ERRORS, report_findings, write_output
from silogen_compiler.diagnostics import Refused
from silogen_compiler.emit import FORMATS, describe_formats
from silogen_compiler.pipeline import compile_file

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic


@click.command("compile", epilog=describe_formats())
@click.argument("configs", nargs=-1, required=True)
@compile_options
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    default="yaml",
    show_default=True,
    metavar="FORMAT",
    help="What to print, see below.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help="Write to this file, whole or not at all; - is standard output.",
)
def compile_command(configs: tuple[str, ...], format_name: str, output: str | None, **options: Any) -> None:
    """Resolve a config (YAML, TOML or JSON; - for standard input) and print the resolved config.

    Of several CONFIGS, each goes over those before it: objects merge, lists and other values replace.
    Findings go to standard error. Neither data nor model have to exist.
    """
    refuse_same_file(output, configs)
    compiled = compile_file(*configs, **options)
    report_findings(compiled.diagnostics, compiled.sources)
    if compiled.resolved is None:
        sys.exit(EXIT_ERRORS)
    try:
        inputs = (*configs, *options_as_words(options, compiled.diagnostics))
        text = FORMATS[format_name](compiled.resolved, compiled.origins, inputs)
    except Refused as refused:
        report_findings(list(refused.diagnostics), compiled.sources)
        sys.exit(EXIT_ERRORS)
    write_output(output, text)


def refuse_same_file(output: str | None, configs: tuple[str, ...]) -> None:
    """Refuse an output that would replace one of the configs."""
    for config in configs:
        if output and os.path.exists(output) and os.path.exists(config) and os.path.samefile(output, config):  # noqa: PTH110, PTH121
            raise click.UsageError(f"the output would replace the config {config}")


def options_as_words(options: dict[str, Any], diagnostics: list[Diagnostic]) -> list[str]:
    """Return the settings as words of a command line; without their values where a secret was found."""
    has_secret = any(diagnostic.code == "SG313" for diagnostic in diagnostics)
    words = []
    for name, option in {"settings": "--set", "setting_files": "--set-file"}.items():
        for setting in options[name]:
            words += [option, f"{setting.partition('=')[0]}=…" if has_secret else setting]
    return words
