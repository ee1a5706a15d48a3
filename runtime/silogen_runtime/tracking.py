"""MLflow: a run there for each run here. A server that is gone ends the tracking, not the training.

transformers' own callback is left out: it drops long values and every error, calls failed runs finished,
prints credentials, keeps checkpoints beside a pickle, and waits minutes for a server that is gone.
"""

# ruff: noqa: ARG002 - the trainer calls its callbacks with more than they need

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.rules.secrets import without_credentials
from transformers import TrainerCallback
from transformers.utils.import_utils import ENV_VARS_TRUE_VALUES

from silogen_runtime.environment import is_main_process
from silogen_runtime.failures import TRACKING_HELP, explain_failures
from silogen_runtime.mlflow_client import MOST_METRICS, connect, metrics_of, open_run, page, reason, server
from silogen_runtime.summary import show_findings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run
    from rich.console import Console
    from silogen_compiler.diagnostics import Findings
    from silogen_config import ResolvedConfig
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from silogen_runtime.trainer import Trainer


def check_tracking(config: ResolvedConfig) -> Findings:
    """Yield why MLflow can't take the run; the first process asks, and knows within seconds."""
    if config.tracking is None or not is_main_process():
        return
    uri = without_credentials(server(config.tracking))
    try:
        client = connect(config.tracking)
        experiment = client.get_experiment_by_name(config.tracking.experiment_name)
        run = client.get_run(config.tracking.run_id) if config.tracking.run_id else None
    except Exception as error:  # noqa: BLE001 - of MLflow, requests, SQLAlchemy or a database's driver
        yield _refusal(uri, reason(error))
        return
    for problem in _problems(config.tracking.experiment_name, experiment, run):
        yield _refusal(uri, problem)


@contextmanager
def tracked(
    trainer: Trainer, config: ResolvedConfig, resolved: dict[str, Any], console: Console
) -> Iterator[list[Diagnostic]]:
    """Log what the trainer logs to MLflow while the block runs, and how the block ended.

    Yields the findings about it; they are complete when the block has ended. Without a section `tracking`,
    and in all processes but the first, nothing happens.
    """
    findings: list[Diagnostic] = []
    if config.tracking is None or not is_main_process():
        yield findings
        return
    with explain_failures("starting to track"):
        client = connect(config.tracking)
        run, changed = open_run(client, config, resolved)
    findings += changed
    show_findings(console, changed)
    console.print(f"MLflow  {page(config.tracking, run)}", highlight=False, soft_wrap=True)
    uploads = config.tracking.hf_mlflow_log_artifacts.upper() in ENV_VARS_TRUE_VALUES
    callback = MlflowRun(client, run.info.run_id, console, uploads=uploads)
    trainer.add_callback(callback)
    status = "FAILED"
    try:
        yield findings
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        findings += callback.end(status)


class MlflowRun(TrainerCallback):
    """Sends what is logged to one run of MLflow, from a thread of its own.

    What MLflow does not take is kept and sent again with what is logged next.
    """

    def __init__(self, client: MlflowClient, run_id: str, console: Console, *, uploads: bool) -> None:
        self.client = client
        self.run_id = run_id
        self.console = console
        self.uploads = uploads
        self.thread = ThreadPoolExecutor(1, "mlflow")
        self.waiting: list[Metric] = []
        self.sending: Future[int] | None = None
        self.problem = ""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.waiting += metrics_of(kwargs["logs"], state.global_step)
        if self.sending is None or self.sending.done():
            self._take_answer()
            self.sending = self.thread.submit(self._send, list(self.waiting))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.uploads:
            return
        name = f"checkpoint-{state.global_step}"
        try:
            self.client.log_artifacts(self.run_id, str(Path(str(args.output_dir), name)), name)
        except Exception as error:  # noqa: BLE001 - of MLflow, requests or a store's library
            self._tell(f"`{name}`", reason(error))

    def end(self, status: str) -> list[Diagnostic]:
        """Send what waits, and tell MLflow the status; return what it did not take."""
        self._take_answer()
        if self.waiting:
            self.sending = self.thread.submit(self._send, list(self.waiting))
            self._take_answer()
        self.thread.shutdown()
        try:
            if not self.waiting:
                self.client.set_terminated(self.run_id, status)
                return []
        except Exception as error:  # noqa: BLE001 - as above
            self.problem = reason(error)
        found = [lost(self.waiting, self.problem)]
        show_findings(self.console, found)
        return found

    def _send(self, metrics: list[Metric]) -> int:
        for start in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics[start : start + MOST_METRICS], synchronous=True)
        return len(metrics)

    def _take_answer(self) -> None:
        """Wait for what is being sent, and forget it where MLflow took it."""
        sending, self.sending = self.sending, None
        error = sending.exception() if sending else None
        if error:
            self._tell("the metrics", reason(error))
        elif sending:
            del self.waiting[: sending.result()]
            self.problem = ""

    def _tell(self, what: str, problem: str) -> None:
        """Show what MLflow does not take, once for each time that it stops to."""
        if not self.problem:
            message = f"MLflow does not take {what}: {problem}"
            help_text = "the run goes on; its metrics are in metrics.jsonl, and go to MLflow when it is back"
            show_findings(self.console, [Diagnostic("SG767", message, help=help_text)])
        self.problem = problem


def lost(metrics: list[Metric], problem: str) -> Diagnostic:
    """Return what MLflow lacks at the end."""
    what = f"lacks what was logged from step {metrics[0].step} on" if metrics else "was not told of the end"
    help_text = "the output folder has all of it, in metrics.jsonl"
    return Diagnostic("SG767", f"MLflow {what}: {problem}", help=help_text)


def _refusal(uri: str, problem: str) -> Diagnostic:
    return Diagnostic("SG731", f"MLflow at `{uri}` refuses: {problem}", help=TRACKING_HELP)


def _problems(name: str, experiment: Experiment | None, run: Run | None) -> Iterator[str]:
    """Yield why the experiment, or the run to go on with, takes nothing."""
    if experiment and experiment.lifecycle_stage != "active":
        yield f"the experiment `{name}` is deleted"
    if run is None:
        return
    if run.info.lifecycle_stage != "active":
        yield f"the run `{run.info.run_id}` is deleted"
    if experiment is None or run.info.experiment_id != experiment.experiment_id:
        yield f"the run `{run.info.run_id}` is not in the experiment `{name}`"
