"""`silogen schema`: the JSON Schema of configs, for editors."""

from __future__ import annotations

import click

from silogen_compiler.commands.report import write_output
from silogen_compiler.recipes import EDITOR_SCHEMA


@click.command()
@click.option("--path", is_flag=True, help="Print where the installed schema is, rather than the schema.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help="Write to this file, whole or not at all; - is standard output.",
)
def schema(output: str | None, *, path: bool) -> None:
    """Print the JSON Schema of configs.

    An editor with a YAML language server finds it by a first line such as
    `# yaml-language-server: $schema=silogen.schema.json`, with a path relative to the config.
    """
    write_output(output, f"{EDITOR_SCHEMA}\n" if path else EDITOR_SCHEMA.read_text("utf-8"))
