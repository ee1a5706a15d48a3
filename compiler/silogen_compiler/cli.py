"""Where `silogen` and `silogen-compile` start: which command lives where, and how a process ends."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import click

from silogen_compiler.commands.report import EXIT_FAILED

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Each command with where it lives: a command is imported only when it runs.
COMMANDS = {
    "check": ("silogen_compiler.commands.check:check", "Check configs and print what is wrong with them."),
    "compile": (
        "silogen_compiler.commands.compile:compile_command",
        "Resolve a config to the exact arguments of the libraries.",
    ),
    "completion": (
        "silogen_compiler.commands.completion:completion",
        "Print the script that completes commands and keys in a shell.",
    ),
    "diff": (
        "silogen_compiler.commands.diff:diff",
        "Compare what two configs resolve to.",
    ),
    "explain": (
        "silogen_compiler.commands.explain:explain",
        "Say what a key or the code of a finding means.",
    ),
    "export-adapter": (
        "silogen_runtime.commands.export_adapter:export_adapter_command",
        "Write an adapter as vLLM serves it.",
    ),
    "generate": (
        "silogen_runtime.commands.generate:generate_command",
        "Have a trained model answer prompts or validation data.",
    ),
    "init": ("silogen_compiler.commands.init:init", "Write a commented config to start from."),
    "merge": (
        "silogen_runtime.commands.merge:merge_command",
        "Merge an adapter into its base model.",
    ),
    "schema": ("silogen_compiler.commands.schema:schema", "Print the JSON Schema of configs, for editors."),
    "fix": ("silogen_compiler.commands.fix:fix", "Mend configs in the file itself."),
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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands without importing any."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - start-up time

        return [
            CompletionItem(name, help=text)
            for name, (_, text) in sorted(COMMANDS.items())
            if name.startswith(incomplete)
        ]


@click.group(cls=LazyGroup)
@click.version_option(package_name="silogen")
def silogen() -> None:
    """Compile a fine-tuning config and train exactly what it says."""


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
    from silogen_compiler.commands.compile import compile_command  # noqa: PLC0415 - each command when it runs

    run(compile_command, "silogen-compile")


if __name__ == "__main__":
    main()
