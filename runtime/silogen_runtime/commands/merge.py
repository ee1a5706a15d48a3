"""`silogen merge`: one model of an adapter and its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from silogen_compiler.commands.options import report_options

from silogen_runtime.commands.ending import refusals

if TYPE_CHECKING:
    from silogen_compiler.commands.report import Report

base_option = click.option(
    "--base",
    metavar="MODEL",
    help="Base model, a folder or a name; without it the one that the adapter was trained on.",
)


@click.command("merge")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@base_option
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Type of the merged weights; without it the one that the run computed in.",
)
@report_options
def merge_command(
    checkpoint: Path, out: Path, base: str | None, dtype: str | None, *, report: Report
) -> None:
    """Merge the adapter of CHECKPOINT into its base model, and save the whole model to the new folder OUT.

    CHECKPOINT is the folder of an adapter, or the output folder of a run. OUT gets the tokenizer, the chat
    template and the generation config too. A base that was quantized for training is turned back to plain
    weights before merging, since the adapter was trained on those.
    """
    with refusals(report, "merging"):
        from silogen_runtime.merge import merge  # noqa: PLC0415 - start-up time

        made = merge(checkpoint, out, base=base, dtype=dtype)
    quantized = f", dequantized from {made.dequantized_from}" if made.dequantized_from else ""
    click.echo(f"merged the {made.adapter_type} adapter into {made.base}{quantized}", err=True)
    click.echo(f"saved {out} ({made.dtype})", err=True)
