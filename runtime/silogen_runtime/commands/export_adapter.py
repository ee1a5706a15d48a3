"""`silogen export-adapter`: an adapter as vLLM loads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from silogen_compiler.commands.options import report_options

from silogen_runtime.commands.ending import refusals
from silogen_runtime.commands.merge import base_option

if TYPE_CHECKING:
    from silogen_compiler.commands.report import Report


@click.command("export-adapter")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@base_option
@report_options
def export_adapter_command(checkpoint: Path, out: Path, base: str | None, *, report: Report) -> None:
    """Write the LoRA adapter of CHECKPOINT to the new folder OUT as vLLM serves it on its base.

    Adapters that `silogen train` saves at its end need no export. This is for checkpoints on the way there
    and for adapters from elsewhere: PEFT saves weights of the base model beside some of them, and vLLM stops
    at those.
    """
    with refusals(report, "reading adapters"):
        from silogen_runtime.adapter_export import export_adapter  # noqa: PLC0415 - start-up time

        dropped = export_adapter(checkpoint, out, base=base)
    for name in dropped:
        click.echo(f"left out {name}, which is the base model's own", err=True)
    click.echo(f"saved {out}", err=True)
