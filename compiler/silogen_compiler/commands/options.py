"""Options that several commands share; their names are the fields of `pipeline.Options`."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from silogen_compiler.commands.report import Report
from silogen_compiler.render import RENDERERS
from silogen_compiler.targets import packages_of_targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

Command = Any


def _files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete the names of files."""
    del ctx, param
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - start-up time

    return [CompletionItem(incomplete, type="file")]


def _settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the keys that `--set` takes."""
    del ctx, param
    from silogen_compiler.commands.completion import setting_keys  # noqa: PLC0415 - start-up time

    return setting_keys(incomplete)


def names_to_explain(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the keys and codes that `silogen explain` takes."""
    del ctx, param
    from silogen_compiler.commands.completion import explained_names  # noqa: PLC0415 - start-up time

    return explained_names(incomplete)


config_files = click.argument("configs", nargs=-1, required=True, shell_complete=_files)
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
    shell_complete=_settings,
    help="Set one value above all files, such as `training_args.learning_rate=1e-4` or `a.b[0]=[1, null]`.",
)
setting_files = click.option(
    "--set-file",
    "setting_files",
    multiple=True,
    metavar="KEY=FILE",
    shell_complete=_settings,
    help="Set one value to what a file holds: its text, or the YAML, JSON or TOML in it.",
)
message_format = click.option(
    "--message-format",
    type=click.Choice(list(RENDERERS)),
    default=Report().form,
    show_default=True,
    help="Form of the findings.",
)
error_limit = click.option(
    "--error-limit",
    type=click.IntRange(min=0),
    default=Report().limit,
    show_default=True,
    metavar="N",
    help="Most findings shown as text, errors before warnings; 0 for all. Other forms hold all.",
)


def report_options(command: Command) -> Command:
    """Add what every command takes that shows findings; it gets that as one `report`."""

    @message_format
    @error_limit
    @wraps(command)
    def with_report(*args: Any, message_format: str, error_limit: int, **kwargs: Any) -> Any:
        return command(*args, report=Report(message_format, error_limit), **kwargs)

    return with_report


locked = click.option(
    "--locked", is_flag=True, help="Refuse when config, data, model or versions differ from the lock."
)


def compile_options(command: Command) -> Command:
    """Add what every command that compiles takes."""
    decorators: tuple[Callable[[Command], Command], ...] = (settings, setting_files, world_size, target)
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
