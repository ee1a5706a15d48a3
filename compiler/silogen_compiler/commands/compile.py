"""`silogen compile`: from a config to the resolved config."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from silogen_compiler.commands.options import compile_options, config_files, report_options
from silogen_compiler.commands.options import locked as locked_option
from silogen_compiler.commands.report import EXIT_ERRORS, Report, columns, has_color, write_output
from silogen_compiler.diagnostics import Refused
from silogen_compiler.emit import FORMATS, describe_formats
from silogen_compiler.pipeline import compile_file

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic
    from silogen_compiler.pipeline import Compiled


@click.command("compile", epilog=describe_formats())
@config_files
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
@click.option("--explain", is_flag=True, help="Print a table of every value with its argument and origin.")
@click.option(
    "--lock", is_flag=True, help="Write NAME.lock.json beside the config: what it reads and resolves to."
)
@locked_option
@report_options
def compile_command(  # noqa: PLR0913 - options of a command
    configs: tuple[str, ...],
    format_name: str,
    output: str | None,
    *,
    explain: bool,
    lock: bool,
    locked: bool,
    report: Report,
    **options: Any,
) -> None:
    """Resolve a config (YAML, TOML or JSON; - for standard input) and print the resolved config.

    Of several CONFIGS, each goes over those before it: objects merge, lists and other values replace.
    Findings go to standard error. Neither data nor model have to exist.
    """
    if lock and locked:
        raise click.UsageError("--lock writes the lock that --locked compares with: give one of them")
    refuse_same_file(output, configs)
    compiled = compile_file(*configs, **options)
    report.show(compiled.diagnostics, compiled.sources)
    if compiled.resolved is None:
        sys.exit(EXIT_ERRORS)
    if lock or locked:
        from silogen_compiler.commands.locking import require_lock, write_lock  # noqa: PLC0415 - start-up time

        (write_lock if lock else require_lock)(configs, compiled)
    if explain:
        write_output(output, table(compiled, output))
        return
    try:
        inputs = (*configs, *options_as_words(options, compiled.diagnostics))
        text = FORMATS[format_name](compiled.resolved, compiled.origins, inputs)
    except Refused as refused:
        report.show(refused.diagnostics, compiled.sources)
        sys.exit(EXIT_ERRORS)
    write_output(output, text)


def table(compiled: Compiled, output: str | None) -> str:
    """Return what `--explain` writes: on a terminal in its width, with defaults dimmed."""
    from silogen_compiler.explain.table import explain_table  # noqa: PLC0415 - start-up time

    is_file = output not in (None, "-")
    return explain_table(
        compiled, width=0 if is_file else columns(sys.stdout), color=has_color(sys.stdout) and not is_file
    )


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
