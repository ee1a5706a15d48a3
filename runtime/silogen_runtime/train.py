"""The story of a run."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from peft import PeftModel
from rich.console import Console
from silogen_compiler.diagnostics import Diagnostic, Refused, has_errors
from silogen_compiler.trainable import uncontinued
from silogen_config import CallSpec

from silogen_runtime.checkpoints import Start, choose_start, moved_reference, step_of
from silogen_runtime.data import load_data
from silogen_runtime.environment import is_main_process, set_environment
from silogen_runtime.failures import explain_failures
from silogen_runtime.files import new_folder
from silogen_runtime.machine import adapter_class, check_machine
from silogen_runtime.model import load_model
from silogen_runtime.model_card import FinishedRun, write_card
from silogen_runtime.progress import MetricsFile, ProgressLine, read_metrics, reported
from silogen_runtime.quiet import quiet_libraries
from silogen_runtime.records import Records
from silogen_runtime.resolved import parse
from silogen_runtime.resumed_state import ResumedState
from silogen_runtime.resuming import check_resumed, forgets_best
from silogen_runtime.signals import Signals, Stopped
from silogen_runtime.stopping import StopCallback, announce
from silogen_runtime.summary import show_findings, show_summary
from silogen_runtime.tokenizer import for_inference, load_tokenizer
from silogen_runtime.tracking import check_tracking, tracked
from silogen_runtime.trainer import (
    build_args,
    build_trainer,
    gathered_weights,
    make_plan,
    refuse_lost_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from silogen_config import ResolvedConfig

    from silogen_runtime.data import TrainingData
    from silogen_runtime.model import LoadedModel
    from silogen_runtime.tokenizer import ChatTokenizer
    from silogen_runtime.trainer import Args, Plan, Trainer

    Stage = Callable[[str], AbstractContextManager[None]]


class Outcome(NamedTuple):
    """What a finished run leaves behind: its steps, its logged losses from first to last, its model."""

    steps: int
    losses: list[float]
    validation_losses: list[float]
    final_checkpoint: Path
    warnings: list[Diagnostic]


class Parts(NamedTuple):
    """What a trainer is made of."""

    args: Args
    chat: ChatTokenizer
    data: TrainingData
    loaded: LoadedModel


def train(
    resolved: dict[str, Any], *, console: Console, max_bad_lines: int = 0, allow_changes: bool = False
) -> Outcome:
    """Run a resolved config to its end. Refused where the config, the data or the machine don't allow it.

    Up to `max_bad_lines` lines of the data files that can't be trained on are left out. With `allow_changes`
    a run goes on from a checkpoint of another config. Stopped where SIGINT or SIGTERM came while it trained.
    """
    config = parse(resolved)
    explained = partial(explain_failures, config=config)
    console = console if is_main_process() else Console(quiet=True)
    with quiet_libraries():
        start = prepare(config, resolved, allow_changes=allow_changes)
        parts = load_parts(config, console, max_bad_lines=max_bad_lines, stage=explained)
        args, chat, data, loaded = parts

        with explained("setting up the trainer"):
            output_dir = Path(args.output_dir)
            output_dir.mkdir(parents=True, exist_ok=True)
            progress = ProgressLine(console)
            metrics = MetricsFile(output_dir / "metrics.jsonl", step_of(start.checkpoint))
            state = ResumedState(forgets_best=forgets_best(resolved, start.checkpoint))
            with console.status("Setting up the trainer"):  # which may ask the reference model first
                trainer = build_trainer(config, args, loaded, chat, data, [metrics, progress, state])
            warnings = [*start.diagnostics, *data.diagnostics]
            show_findings(console, warnings)
            plan = make_plan(trainer, step_of(start.checkpoint))
            show_summary(console, data, plan)
            trainer.records = Records(resolved, output_dir if args.should_save else None)

        with (
            leaving_together(trainer),
            Signals(announce) as signals,
            tracked(trainer, config, resolved, console) as untracked,
            reported(output_dir, resolved, plan.steps),
        ):
            with explained("training"), progress.bar:
                run_steps(trainer, plan, start.checkpoint, signals)
            with explained("saving the model"):
                refuse_lost_weights(trainer.model)
                final = output_dir / config.run.final_checkpoint_name
                weights = gathered_weights(trainer)
                if is_main_process():
                    finished = FinishedRun(config, plan, data, read_metrics(metrics.path))
                    save_final(trainer, chat, final, finished, weights)
        return Outcome(
            steps=trainer.state.global_step,
            losses=logged(metrics.path, "loss"),
            validation_losses=logged(metrics.path, "eval_loss"),
            final_checkpoint=final,
            warnings=[*warnings, *untracked],
        )


def load_parts(
    config: ResolvedConfig, console: Console, *, max_bad_lines: int, stage: Stage = explain_failures
) -> Parts:
    """Load what a trainer is made of; each load runs in `stage`, which is told its name."""
    with stage("setting up the trainer"):
        args = build_args(config)
    with stage("loading the tokenizer"):
        chat = load_tokenizer(config)
    with stage("tokenizing the data"), args.main_process_first():
        data = load_data(config, chat, console, max_bad_lines=max_bad_lines)
    with stage("loading the model"), console.status("Loading the model"):
        loaded = load_model(config, args, chat)
    return Parts(args, chat, data, loaded)


def prepare(config: ResolvedConfig, resolved: dict[str, Any], *, allow_changes: bool = False) -> Start:
    """Check the machine, set the environment, and return where the run starts, with all warnings."""
    with explain_failures("checking the machine"):
        start = choose_start(config)
        findings = [*check_machine(config), *start.diagnostics, *moved_reference(config, start)]
        if start.checkpoint:
            findings += uncontinued(adapter_class(config))
            findings += check_resumed(resolved, start.checkpoint, allow_changes=allow_changes)
        warnings = refuse_or_return(findings)
        set_environment(config)
        refuse_or_return([*check_tracking(config)])
        if config.run.determinism == "half":
            torch.use_deterministic_algorithms(mode=True, warn_only=True)
        return Start(start.checkpoint, tuple(warnings))


def refuse_or_return(findings: list[Diagnostic]) -> list[Diagnostic]:
    """Raise Refused where a finding is an error."""
    if has_errors(findings):
        raise Refused(*findings)
    return findings


def run_steps(trainer: Trainer, plan: Plan, checkpoint: Path | None, signals: Signals) -> None:
    """Train from the checkpoint on; from the last one, only take up its weights. Stopped at a signal."""
    if plan.first_step >= plan.steps:  # the trainer would take one more step
        trainer.args.max_steps, trainer.args.num_train_epochs = -1, 0
        trainer.args.warmup_steps = 1  # some schedules divide by the steps without warmup
    stop = StopCallback(signals)
    trainer.add_callback(stop)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.is_stopped:
        raise Stopped(stop.number)


@contextmanager
def leaving_together(trainer: Trainer) -> Iterator[None]:
    """Let the processes of a stopped run end together: torchrun would kill the one that still reports."""
    try:
        yield
    except Stopped:
        trainer.accelerator.wait_for_everyone()
        raise


def save_final(
    trainer: Trainer,
    chat: ChatTokenizer,
    folder: Path,
    finished: FinishedRun,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Save the model, or its adapter, with its card and the tokenizer as inference needs it.

    `weights` go over those that the model holds.
    """
    with new_folder(folder) as temporary:
        model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
        only = adapter_alone(finished.config) if isinstance(model, PeftModel) else {}
        model.save_pretrained(temporary, state_dict=weights, **only)
        for_inference(chat).save_pretrained(temporary)
        trainer.records.write(temporary)
        write_card(finished, temporary)


def adapter_alone(config: ResolvedConfig) -> dict[str, Any]:
    """Return what has PEFT save the trained adapter, and not what else there is of the model.

    TRL compares with a copy of an earlier adapter. To a new adapter on the embeddings, or of a grown model,
    PEFT would add the weights below, which are not trained, and which vLLM does not take.
    """
    embeddings = {"save_embedding_layers": False} if isinstance(config.peft, CallSpec) else {}
    return {"selected_adapters": ["default"], **embeddings}


def logged(metrics: Path, key: str) -> list[float]:
    """Return the values of one key of metrics.jsonl, also those from before the run was resumed."""
    return [line[key] for line in read_metrics(metrics) if key in line]
