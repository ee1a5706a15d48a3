"""`silogen train`: compiles a config, or reads a resolved one, and trains it."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import click
from silogen_compiler.cli import run
from silogen_compiler.commands.locking import require_lock
from silogen_compiler.commands.options import config_files, report_options, setting_files, settings
from silogen_compiler.commands.options import locked as locked_option
from silogen_compiler.commands.report import EXIT_ERRORS, EXIT_FAILED, Report
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.emit import digest
from silogen_compiler.extends import load_files
from silogen_compiler.lower import API_VERSION
from silogen_compiler.pipeline import Compiled, compile_layers

from silogen_runtime.environment import check_launcher, is_main_process, world_size

if TYPE_CHECKING:
    from silogen_compiler.load import Layer

    from silogen_runtime.train import Outcome

EXIT_STOPPED = 130  # as shells tell that a command was interrupted

# What `pip install silogen` leaves out.
PACKAGES = ("accelerate", "datasets", "matplotlib", "peft", "rich", "torch", "transformers", "trl")


@click.command("train")
@config_files
@settings
@setting_files
@click.option(
    "--max-bad-lines",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Leave out up to this many lines of data that can't be trained on; more of them end the run.",
)
@locked_option
@report_options
def train_command(
    configs: tuple[str, ...], max_bad_lines: int, *, locked: bool, report: Report, **options: Any
) -> None:
    """Train a config, which is compiled first, or a resolved config, which is run as it is.

    Of several CONFIGS, each goes over those before it. - stands for standard input. Ctrl-C stops the run;
    checkpoints that it saved stay.
    """
    refuse_launch(report)
    compiled = read_configs(configs, **options)
    if is_main_process():
        report.show(compiled.diagnostics, compiled.sources)
    if compiled.resolved is None:
        raise SystemExit(EXIT_ERRORS)
    if locked and is_main_process():
        require_lock(configs, compiled)
    outcome = _train(compiled.resolved, max_bad_lines, report)
    if is_main_process():
        click.echo(_closing(outcome), err=True)


def refuse_launch(report: Report) -> None:
    """End the command where the launcher's variables are wrong, or training is not installed."""
    findings = [*check_launcher(), *_missing_packages()]
    if findings:
        report.show(findings, {})
        raise SystemExit(EXIT_FAILED)


def read_configs(names: tuple[str, ...], **options: Any) -> Compiled:
    """Return what the files compile to for the processes of this launch, or what one file holds resolved."""
    sources: dict[str, str] = {}
    try:
        layers = load_files(names, sources)
        if len(layers) == 1 and layers[0].data.get("apiVersion") == API_VERSION and not any(options.values()):
            return Compiled(as_it_is(layers[0]), {}, [], sources)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), sources)
    return compile_layers(layers, world_size=world_size(), **options)


def as_it_is(layer: Layer) -> dict[str, Any]:
    """Return a resolved config. Refused where it is not what `silogen compile` wrote."""
    from silogen_runtime.resolved import parse  # noqa: PLC0415 - start-up time

    if layer.data.get("digest") != digest(layer.data):
        mark = layer.marks.get(("digest",))
        message = "the resolved config is not what its digest says: it was changed after it was compiled"
        label = "change the config that it came from, and compile again"
        raise Refused(Diagnostic("SG722", message, mark and mark.value, label, file=layer.name))
    parse(layer.data, layer=layer)
    return layer.data


def _missing_packages() -> list[Diagnostic]:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if not missing:
        return []
    message = f"training needs packages that are not installed: {', '.join(missing)}"
    return [Diagnostic("SG704", message, help="pip install 'silogen[train]'")]


def _train(resolved: dict[str, Any], max_bad_lines: int, report: Report) -> Outcome:
    from rich.console import Console  # noqa: PLC0415 - a mistake in the config is told before torch is loaded

    console = Console(stderr=True)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns while it is imported
    try:
        with console.status("Loading PyTorch and transformers"):
            from silogen_runtime.train import train  # noqa: PLC0415
        return train(resolved, console=console, max_bad_lines=max_bad_lines)
    except Refused as refused:
        if is_main_process():
            report.show(list(refused.diagnostics), {})
        raise SystemExit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        if is_main_process():
            click.echo(_stopped(resolved), err=True)
        raise SystemExit(EXIT_STOPPED) from None


def _closing(outcome: Outcome) -> str:
    named = (("loss", outcome.losses), ("validation loss", outcome.validation_losses))
    courses = [f"{name} {losses[0]:.4f} → {losses[-1]:.4f}" for name, losses in named if losses]
    return "\n".join([", ".join([f"{outcome.steps} steps", *courses]), f"saved {outcome.final_checkpoint}"])


def _stopped(resolved: dict[str, Any]) -> str:
    """Return how to go on after the run was stopped."""
    from silogen_runtime.checkpoints import newest_complete  # noqa: PLC0415 - start-up time
    from silogen_runtime.resolved import parse  # noqa: PLC0415

    checkpoint = newest_complete(parse(resolved)).checkpoint
    if checkpoint is None:
        return "stopped; there is no checkpoint to go on from"
    return f"stopped; to go on from {checkpoint}, write `resume_from_checkpoint: auto` under run_conf"


def main() -> NoReturn:
    """Run `silogen train` as `silogen-train`."""
    run(train_command, "silogen-train")
