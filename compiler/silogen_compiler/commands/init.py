"""`silogen init`: a commented config to start from."""

from __future__ import annotations

import os
import sys

import click

from silogen_compiler.commands.report import write_output
from silogen_compiler.recipes import RECIPES, write_recipe


@click.command()
@click.argument("recipe", type=click.Choice(list(RECIPES)), required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    default="run.yaml",
    show_default=True,
    help="File to write; - is standard output.",
)
@click.option(
    "--model", default="models/base", show_default=True, help="Base model: a local folder or a hub id."
)
@click.option("--data", default="", help="Training data: a JSONL file.")
@click.option(
    "--gpus",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="GPUs that will train; 0 is the CPU.",
)
@click.option("--force", is_flag=True, help="Replace the file where it is there already.")
def init(  # noqa: PLR0913 - options of a command
    recipe: str | None, output: str, *, model: str, data: str, gpus: int, force: bool
) -> None:
    """Write a commented config for a RECIPE: sft-full, sft-lora, sft-qlora or dpo-lora."""
    if output != "-" and os.path.exists(output) and not force:  # noqa: PTH110
        raise click.UsageError(f"{output} is there already; --force replaces it")
    recipe = recipe or _ask()
    name = "run.yaml" if output == "-" else output
    write_output(output, write_recipe(recipe, name, model=model, data=data, gpus=gpus))
    if output != "-":
        click.echo(f"wrote {output}: {RECIPES[recipe].text}; `silogen check {output}` checks it", err=True)


def _ask() -> str:
    """Return the recipe that a person chooses; without a terminal, it has to be given."""
    choices = "\n".join(f"  {name.ljust(9)}  {recipe.text}" for name, recipe in RECIPES.items())
    if not sys.stdin.isatty():
        raise click.UsageError(f"give a recipe:\n{choices}")
    click.echo(choices, err=True)
    chosen: str = click.prompt("Recipe", type=click.Choice(list(RECIPES)), default="sft-lora", err=True)
    return chosen
