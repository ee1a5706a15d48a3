"""The commands `silogen`, and `silogen-compile`; the only part that prints or exits."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from silogen_compiler.diagnostics import Diagnostic, has_errors
from silogen_compiler.emit import FORMATS
from silogen_compiler.pipeline import Compiled, compile_file
from silogen_compiler.targets import installed_target, packages_of_targets

EXIT_ERRORS, EXIT_FAILED = 1, 4

# Each command with where it lives: a command is imported only when it runs.
COMMANDS = {
    "check": ("silogen_compiler.cli:check", "Check configs and print what is wrong with them."),
    "compile": (
        "silogen_compiler.cli:compile_command",
        "Resolve a config to the exact arguments of the libraries.",
    ),
    "explain": ("silogen_compiler.explain:explain", "Say what a key or the code of a finding means."),
    "train": ("silogen_runtime.cli:train_command", "Train what a config or a resolved config says."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])


@click.group(cls=LazyGroup)
@click.version_option(package_name="silogen")
def silogen() -> None:
    """Compile a fine-tuning config and train exactly what it says."""


world_size_option = click.option(
    "--world-size",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes that will train, one a device.",
)


target_option = click.option(
    "--target",
    type=click.Choice(list(packages_of_targets())),
    help="Library versions to compile for; without it those that are installed, or else the newest.",
)


@click.command("compile")
@click.argument("config")
@world_size_option
@target_option
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
def compile_command(
    config: str, world_size: int, target: str | None, format_name: str, output: str | None
) -> None:
    """Resolve CONFIG (YAML, TOML or JSON; - for standard input) and print the resolved config.

    Findings go to standard error. Neither data nor model have to exist.
    """
    if output and os.path.exists(output) and os.path.exists(config) and os.path.samefile(output, config):  # noqa: PTH110, PTH121
        raise click.UsageError("the output would replace the config itself")
    compiled = _compile(config, world_size, target)
    report(compiled)
    if compiled.resolved is None:
        sys.exit(EXIT_ERRORS)
    text = FORMATS[format_name](compiled.resolved, compiled.origins)
    if output in (None, "-"):
        click.echo(text, nl=False)
    else:
        _write(output, text)


@click.command()
@click.argument("configs", nargs=-1, required=True)
@world_size_option
@target_option
def check(configs: tuple[str, ...], world_size: int, target: str | None) -> None:
    """Check each of CONFIGS and print what is wrong with it."""
    results = [_compile(config, world_size, target) for config in configs]
    for compiled in results:
        report(compiled)
    failed = sum(compiled.resolved is None for compiled in results)
    click.echo(f"{_count(len(results), 'config')} checked, {failed} with errors", err=True)
    if failed:
        sys.exit(EXIT_ERRORS)


def _compile(config: str, world_size: int, target: str | None) -> Compiled:
    name = target or installed_target()
    return compile_file(config, environment=os.environ, world_size=world_size, target=name)


def report(compiled: Compiled) -> None:
    """Print the findings of one compile and, where there are errors, their number."""
    report_findings(compiled.diagnostics, compiled.sources)


def report_findings(diagnostics: list[Diagnostic], sources: dict[str, str]) -> None:
    """Print findings to standard error, with a line that counts them where there are errors."""
    if not diagnostics:
        return
    from silogen_compiler.render.text import render_text  # noqa: PLC0415 - start-up time

    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    click.echo(render_text(diagnostics, sources, color=color), err=True, nl=False)
    if has_errors(diagnostics):
        errors = sum(d.severity == "error" for d in diagnostics)
        warnings = len(diagnostics) - errors
        also = f", {_count(warnings, 'warning')}" if warnings else ""
        click.echo(f"{_count(errors, 'error')}{also}", err=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _write(name: str, text: str) -> None:
    from silogen_compiler.files import write_whole  # noqa: PLC0415 - only with --output

    try:
        write_whole(name, text)
    except OSError as error:
        click.echo(f"cannot write {name}: {error.strerror}", err=True)
        sys.exit(EXIT_FAILED)


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command and end the process.

    Without torch it ends at once: taking the interpreter down costs a tenth of a compile.
    """
    try:
        command(prog_name=name)
    except SystemExit as end:
        if "torch" in sys.modules or not isinstance(end.code, int):
            raise
        _leave(end.code)
    except OSError as error:
        click.echo(f"cannot write the output: {error.strerror}", err=True)
        _leave(EXIT_FAILED)
    sys.exit()


def _leave(code: int) -> NoReturn:
    """End the process with what is printed so far; output that cannot be printed is a failure."""
    try:
        sys.stdout.flush()
    except OSError:
        code = code or EXIT_FAILED
    sys.stderr.flush()
    os._exit(code)


def main() -> NoReturn:
    """Run `silogen`."""
    run(silogen, "silogen")


def compile_main() -> NoReturn:
    """Run `silogen compile` as `silogen-compile`."""
    run(compile_command, "silogen-compile")


if __name__ == "__main__":
    main()
