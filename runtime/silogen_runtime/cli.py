"""`silogen train`: compiles a config, or reads a resolved one, and trains it."""

from __future__ import annotations

import logging
import os
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
from silogen_compiler.layers.extends import load_files
from silogen_compiler.lower.lowering import API_VERSION
from silogen_compiler.pipeline import Compiled, compile_layers

from silogen_runtime.environment import check_launcher, is_main_process
from silogen_runtime.launchers import find_place, take
from silogen_runtime.processes import (
    Ended,
    group_of,
    is_shown_by_parent,
    processes_here,
    record,
    run_processes,
)
from silogen_runtime.signals import exit_code

if TYPE_CHECKING:
    from silogen_compiler.load import Layer

    from silogen_runtime.launchers import Place
    from silogen_runtime.processes import Group
    from silogen_runtime.train import Outcome

# Failures on the way, after which a run can go on from its newest checkpoint.
ON_THE_WAY = {"SG718", "SG723", "SG734", "SG744", "SG762"}

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
@click.option(
    "--dry-run",
    is_flag=True,
    help="Take two steps on the longest examples, print their time and memory, and save nothing.",
)
@click.option(
    "--allow-changes",
    is_flag=True,
    help="Resume though the config or the data differ from those that the checkpoint was trained with.",
)
@locked_option
@report_options
def train_command(  # noqa: PLR0913 - the options of the command
    configs: tuple[str, ...],
    *,
    max_bad_lines: int,
    dry_run: bool,
    allow_changes: bool,
    locked: bool,
    report: Report,
    **options: Any,
) -> None:
    """Train a config, which is compiled first, or a resolved config, which is run as it is.

    - stands for standard input. Of several CONFIGS, each goes over those before it. Where `launch` asks for
    several processes, they are started here, unless a launcher has done so. Ctrl-C and SIGTERM save a
    checkpoint at the end of the step and end the run with exit code 130 or 143; the second ends it at once.
    """
    how = {"max_bad_lines": max_bad_lines, "allow_changes": allow_changes, "dry_run": dry_run}
    refuse_launch(report)
    place = find_place()
    compiled = read_configs(configs, place, **options)
    is_first = not place or place.rank == 0
    if is_first:
        report.show(compiled.diagnostics, compiled.sources)
    if compiled.resolved is None:
        raise SystemExit(EXIT_ERRORS)
    if locked and is_first:
        require_lock(configs, compiled)
    group = _group(compiled.resolved, place, report)
    if group:
        _start(compiled.resolved, group, how, report)
        return
    if place:
        take(place)
    closing = _train(compiled.resolved, how, report)
    if is_main_process():
        click.echo(closing, err=True)


def refuse_launch(report: Report) -> None:
    """End the command where the launcher's variables are wrong, or training is not installed."""
    findings = [*check_launcher(), *missing_packages("training")]
    if findings:
        report.show(findings, {})
        raise SystemExit(EXIT_FAILED)


def read_configs(names: tuple[str, ...], place: Place | None, **options: Any) -> Compiled:
    """Return what the files compile to for the processes of this launch, or what one file holds resolved."""
    sources: dict[str, str] = {}
    try:
        layers = load_files(names, sources)
        if len(layers) == 1 and layers[0].data.get("apiVersion") == API_VERSION and not any(options.values()):
            return Compiled(as_it_is(layers[0]), {}, [], sources)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), sources)
    return _compile(layers, place, **options)


def _compile(layers: list[Layer], place: Place | None, **options: Any) -> Compiled:
    """Compile for the processes that will really train: what a launcher started, or what is started here."""
    if place and place.machines is None:
        _say_number(place.world_size, place)
        return compile_layers(layers, world_size=place.world_size, **options)
    compiled = compile_layers(layers, **options)
    if compiled.resolved is None:
        return compiled
    launch, args = compiled.resolved["launch"], compiled.resolved["trainer"]["args"]
    machines = (place and place.machines) or launch.get("nodes", 1)
    real = machines * processes_here(launch, place, use_cpu=args["use_cpu"])
    if real == launch["world_size"] and launch.get("processes_per_node") != "auto":
        return compiled
    _say_number(real, place)
    return compile_layers(layers, world_size=real, **options)


def _say_number(processes: int, place: Place | None) -> None:
    """Say for how many processes the config is compiled, where not the config itself tells."""
    if processes > 1 and (place is None or place.rank == 0):
        click.echo(f"compiling for {processes} processes, the number that really train", err=True)


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


def missing_packages(work: str) -> list[Diagnostic]:
    """Return a finding where what `work` needs is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if not missing:
        return []
    message = f"{work} needs packages that are not installed: {', '.join(missing)}"
    return [Diagnostic("SG704", message, help="pip install 'silogen[train]'")]


def _group(resolved: dict[str, Any], place: Place | None, report: Report) -> Group | None:
    try:
        return group_of(resolved, place)
    except Refused as refused:
        report.show(refused.diagnostics, {})
        raise SystemExit(EXIT_FAILED) from None


def _start(resolved: dict[str, Any], group: Group, how: dict[str, Any], report: Report) -> None:
    """Train with processes that are started here, and end as they do."""
    words = [word for word in ("--allow-changes", "--dry-run") if how[word[2:].replace("-", "_")]]
    try:
        run_processes(resolved, group, [*words, "--max-bad-lines", str(how["max_bad_lines"])])
    except Ended as ended:
        if ended.heading:
            click.echo(ended.heading, err=True)
        report.show(ended.findings, {})
        _say_how_to_go_on(resolved, ended.findings)
        raise SystemExit(ended.exit_code) from None
    except KeyboardInterrupt as stop:
        _say_how_to_go_on(resolved)
        raise SystemExit(exit_code(stop)) from None


def _train(resolved: dict[str, Any], how: dict[str, Any], report: Report) -> str:
    """Train, or only try to; return what there is to say of it."""
    from rich.console import Console  # noqa: PLC0415 - a mistake in the config is told before torch is loaded

    console = Console(stderr=True)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns while it is imported
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)  # and it too
    try:
        with console.status("Loading PyTorch and transformers"):
            from silogen_runtime import dry_run as dry  # noqa: PLC0415
            from silogen_runtime.train import train  # noqa: PLC0415
        if how.pop("dry_run"):
            dry.dry_run(resolved, console=console, **how)
            return "it fits; nothing was saved"
        return _closing(train(resolved, console=console, **how))
    except Refused as refused:
        _report_failure(refused.diagnostics, report)
        if is_main_process() and not is_shown_by_parent():
            _say_how_to_go_on(resolved, refused.diagnostics)
        raise SystemExit(EXIT_FAILED) from None
    except KeyboardInterrupt as stop:
        if is_main_process() and not is_shown_by_parent():
            _say_how_to_go_on(resolved)
        raise SystemExit(exit_code(stop)) from None


def _report_failure(findings: tuple[Diagnostic, ...], report: Report) -> None:
    """Say what this process failed of, where no other does: the others mostly fail of the same."""
    is_recorded = record(findings)
    if is_shown_by_parent():
        return
    if is_main_process():
        report.show(findings, {})
    elif not is_recorded:
        for found in findings:
            click.echo(f"process {os.environ['RANK']}: {found.code}: {found.message}", err=True)


def _closing(outcome: Outcome) -> str:
    named = (("loss", outcome.losses), ("validation loss", outcome.validation_losses))
    courses = [f"{name} {losses[0]:.4f} → {losses[-1]:.4f}" for name, losses in named if losses]
    return "\n".join([", ".join([f"{outcome.steps} steps", *courses]), f"saved {outcome.final_checkpoint}"])


def _say_how_to_go_on(resolved: dict[str, Any], failed_of: tuple[Diagnostic, ...] = ()) -> None:
    """Say how to go on after the run was stopped, or failed of something that came on the way."""
    from silogen_runtime.checkpoints import newest_complete  # noqa: PLC0415 - start-up time
    from silogen_runtime.resolved import parse  # noqa: PLC0415

    if failed_of and ON_THE_WAY.isdisjoint(finding.code for finding in failed_of):
        return
    checkpoint = newest_complete(parse(resolved)).checkpoint
    is_resuming = resolved["run"]["resume_from_checkpoint"] in {True, "auto"}
    how = "start it again" if is_resuming else "write `resume_from_checkpoint: auto` under run_conf"
    if checkpoint:
        click.echo(f"{'' if failed_of else 'stopped; '}to go on from {checkpoint}, {how}", err=True)
    elif not failed_of:
        click.echo("stopped; there is no checkpoint to go on from", err=True)


def main() -> NoReturn:
    """Run `silogen train` as `silogen-train`."""
    run(train_command, "silogen-train")
