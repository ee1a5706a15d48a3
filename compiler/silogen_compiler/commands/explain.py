"""`silogen explain`: what a key of the config takes, or what the code of a finding means."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from silogen_compiler.codes import CODES
from silogen_compiler.commands.options import compile_options, names_to_explain
from silogen_compiler.commands.report import EXIT_ERRORS, EXIT_USAGE, report_findings
from silogen_compiler.explain.code import explain_code
from silogen_compiler.explain.key import AmbiguousError, explain_key, keys_named
from silogen_compiler.hints import all_keys, suggest_value

if TYPE_CHECKING:
    from silogen_compiler.pipeline import Compiled


@click.command()
@click.argument("name", shell_complete=names_to_explain)
@click.argument("configs", nargs=-1)
@compile_options
def explain(name: str, configs: tuple[str, ...], **options: Any) -> None:
    """Say what NAME means: a code such as SG201, or a key such as training_args.learning_rate.

    With CONFIGS, also what it is there: its value, where that comes from, and the argument that it becomes
    for each target. NAME may then be an argument of the resolved config too: trainer.args.warmup_steps.
    """
    try:
        text = explain_code(name) or (_in_config(name, configs, options) if configs else _key(name))
    except AmbiguousError as error:
        click.echo(error, err=True)
        sys.exit(EXIT_USAGE)
    if not text:
        near = suggest_value(name.rpartition(".")[2], [*CODES, *all_keys()])
        click.echo(f"silogen knows no code and no key `{name}`{f': {near}' if near else ''}", err=True)
        sys.exit(EXIT_USAGE)
    click.echo(text)


def _key(name: str) -> str:
    keys = keys_named(name)
    if len(keys) > 1:
        raise AmbiguousError(name, keys)
    return "".join(map(explain_key, keys))


def _in_config(name: str, configs: tuple[str, ...], options: dict[str, Any]) -> str:
    from silogen_compiler.explain.config import explain_in_config  # noqa: PLC0415 - only with a config

    results = _compile_for_targets(configs, options)
    chosen = next(iter(results.values()))
    if chosen.resolved is None:
        report_findings(chosen.diagnostics, chosen.sources)
        sys.exit(EXIT_ERRORS)
    return explain_in_config(name, results)


def _compile_for_targets(configs: tuple[str, ...], options: dict[str, Any]) -> dict[str, Compiled]:
    """Compile for every target, first for the one that was asked for."""
    from silogen_compiler.pipeline import compile_file  # noqa: PLC0415 - only with a config
    from silogen_compiler.targets import installed_target, packages_of_targets  # noqa: PLC0415

    chosen = options["target"] or installed_target()
    names = sorted(packages_of_targets(), key=lambda name: name != chosen)
    return {name: compile_file(*configs, **{**options, "target": name}) for name in names}
