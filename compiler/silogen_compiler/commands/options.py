"""Options that several commands share; their names are the fields of `pipeline.Options`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from silogen_compiler.targets import packages_of_targets

if TYPE_CHECKING:
    from collections.abc import Callable

Command = Any

world_size = click.option(
    "--world-size",
    type=click.IntRange(min=1),
    help="Number of processes that will train, one a device; without it what `launch` says, else 1.",
)
target = click.option(
    "--target",
    type=click.Choice(list(packages_of_targets())),
    help="Library versions to compile for; without it those that are installed, or else the newest.",
)
settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one value above all files, such as `training_args.learning_rate=1e-4` or `a.b[0]=[1, null]`.",
)
setting_files = click.option(
    "--set-file",
    "setting_files",
    multiple=True,
    metavar="KEY=FILE",
    help="Set one value to what a file holds: its text, or the YAML, JSON or TOML in it.",
)


def compile_options(command: Command) -> Command:
    """Add what every command that compiles takes."""
    decorators: tuple[Callable[[Command], Command], ...] = (settings, setting_files, world_size, target)
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
