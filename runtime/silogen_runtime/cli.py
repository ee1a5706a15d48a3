"""`silogen train`: compiles a config, or reads a resolved one, and trains it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, NoReturn

import click
from silogen_compiler.cli import EXIT_ERRORS, EXIT_FAILED, report_findings, run
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.emit import digest
from silogen_compiler.load import Layer, load_text, read_source
from silogen_compiler.lower import API_VERSION
from silogen_compiler.pipeline import Compiled, compile_text

if TYPE_CHECKING:
    from silogen_runtime.train import Outcome


@click.command("train")
@click.argument("config")
def train_command(config: str) -> None:
    """Train CONFIG: a config, which is compiled first, or a resolved config, which is run as it is."""
    compiled = read_config(config)
    if _is_main_process():
        report_findings(compiled.diagnostics, compiled.sources)
    if compiled.resolved is None:
        raise SystemExit(EXIT_ERRORS)
    outcome = _train(compiled.resolved)
    if _is_main_process():
        click.echo(_closing(outcome), err=True)


def read_config(name: str) -> Compiled:
    """Return what the file `name` compiles to for the processes of this launch, or what it holds resolved."""
    try:
        text = read_source(name)
        layer = load_text(name, text)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), {})
    if layer.data.get("apiVersion") == API_VERSION:
        return _as_it_is(layer)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    return compile_text(name, text, world_size=world_size, environment=os.environ)


def _as_it_is(layer: Layer) -> Compiled:
    """Return a resolved config, refused where it is not what `silogen compile` wrote."""
    sources = {layer.name: layer.text}
    written = layer.data.get("digest")
    if written == digest(layer.data):
        return Compiled(layer.data, {}, [], sources)
    mark = layer.marks.get(("digest",))
    message = "the resolved config is not what its digest says: it was changed after it was compiled"
    label = "change the config that it came from, and compile again"
    finding = Diagnostic("SG722", message, mark and mark.value, label, file=layer.name)
    return Compiled(None, {}, [finding], sources)


def _train(resolved: dict[str, Any]) -> Outcome:
    from rich.console import Console  # noqa: PLC0415 - a mistake in the config is told before torch is loaded

    console = Console(stderr=True)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns while it is imported
    with console.status("Loading PyTorch and transformers"):
        from silogen_runtime.train import train  # noqa: PLC0415

    try:
        return train(resolved, console=console)
    except Refused as refused:
        if _is_main_process():
            report_findings(list(refused.diagnostics), {})
        raise SystemExit(EXIT_FAILED) from None


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _closing(outcome: Outcome) -> str:
    named = (("loss", outcome.losses), ("validation loss", outcome.validation_losses))
    courses = [f"{name} {losses[0]:.4f} → {losses[-1]:.4f}" for name, losses in named if losses]
    return "\n".join([", ".join([f"{outcome.steps} steps", *courses]), f"saved {outcome.final_checkpoint}"])


def main() -> NoReturn:
    """Run `silogen train` as `silogen-train`."""
    run(train_command, "silogen-train")
