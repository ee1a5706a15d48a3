"""What MLflow holds of a run: its experiment, its parameters, tags and metrics, within MLflow's limits."""

from __future__ import annotations

import json
import random
import re
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.rules.secrets import without_credentials

from silogen_runtime.environment import fill_references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from silogen_config import ResolvedConfig, Tracking

NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z_\-. :/]")  # what MLflow refuses in names
LONGEST_NAME, LONGEST_VALUE = 250, 6000  # characters that MLflow takes
MOST_PARAMETERS, MOST_METRICS = 100, 1000  # that it takes at once
LONGEST_LIST = 16  # objects of a list that are parameters of their own

# Parts of a resolved config that are no parameters: where it is tracked, and what is a tag.
NO_PARAMETERS = {"apiVersion", "digest", "tracking"}
MAY_CHANGE = {"run.resume_from_checkpoint"}  # between the parts of a run
INSTALLED = ("torch", "transformers", "trl", "peft")

# What an error of the network or of a server comes down to, in the text around it.
CAUSES = re.compile(
    r"\[Errno -?\d+\] ([\w ]+)|Error\(\d+, '([\w ]+)'\)|(timed out)|(Connection aborted|Connection broken)"
    r"|(Failed to resolve '[^']+')|(error code \d+|too many \d+ error responses)"
)
REQUEST = "failed with exception "  # before it, which request


def connect(tracking: Tracking) -> MlflowClient:
    """Return a client of the server or the database that the config names. SG711 where a variable lacks."""
    from mlflow import MlflowClient  # noqa: PLC0415 - seconds, and only where MLflow is on
    from mlflow.store.db import utils  # noqa: PLC0415

    utils.MAX_RETRY_COUNT = 3  # it asks a database that is gone for minutes
    return MlflowClient(server(tracking))


def server(tracking: Tracking) -> str:
    uri: str = fill_references({"mlflow_server_uri": tracking.mlflow_server_uri})["mlflow_server_uri"]
    return uri


def open_run(
    client: MlflowClient, config: ResolvedConfig, resolved: dict[str, Any]
) -> tuple[Run, list[Diagnostic]]:
    """Make a run, or take up that of `run_id`; log the config to it. Returns also what it knows otherwise."""
    from mlflow.tracking.context.registry import resolve_tags  # noqa: PLC0415 - as above

    assert config.tracking is not None
    if config.tracking.run_id:
        run = client.get_run(config.tracking.run_id)
        client.update_run(run.info.run_id, status="RUNNING")
    else:
        experiment = find_experiment(client, config.tracking)
        name = config.trainer.args.get("run_name")
        told = {
            key: without_credentials(text) for key, text in resolve_tags().items()
        }  # the address of a git repository
        with unseeded():  # a name that MLflow makes up
            run = client.create_run(experiment, run_name=name, tags=told)
    return run, log_config(client, run, resolved)


@contextmanager
def unseeded() -> Iterator[None]:
    """Draw other random numbers in the block than the seed of the run gives, and leave those to the run."""
    state = random.getstate()
    random.seed()
    try:
        yield
    finally:
        random.setstate(state)


def find_experiment(client: MlflowClient, tracking: Tracking) -> str:
    """Return the id of the experiment, which is made where it is not there."""
    experiment = client.get_experiment_by_name(tracking.experiment_name)
    if experiment:
        return str(experiment.experiment_id)
    return str(client.create_experiment(tracking.experiment_name, artifact_folder(server(tracking))))


def artifact_folder(uri: str) -> str | None:
    """Return where files go beside an SQLite file; MLflow would take the folder that the command runs in."""
    _, scheme, path = uri.partition("sqlite:///")
    return (Path(path).absolute().parent / "mlartifacts").as_uri() if scheme else None


def log_config(client: MlflowClient, run: Run, resolved: dict[str, Any]) -> list[Diagnostic]:
    """Log the config as parameters, tags and resolved.json. MLflow keeps parameters that it has already."""
    from mlflow.entities import Param, RunTag  # noqa: PLC0415 - as above

    run_id, known, wanted = run.info.run_id, run.data.params, parameters(resolved)
    new = [Param(name, value) for name, value in wanted.items() if name not in known]
    for start in range(0, len(new), MOST_PARAMETERS):
        client.log_batch(run_id, params=new[start : start + MOST_PARAMETERS], synchronous=True)
    described = [RunTag(f"silogen.{name}", text) for name, text in tags(resolved).items()]
    client.log_batch(run_id, tags=described, synchronous=True)
    client.log_text(run_id, json.dumps(resolved, indent=2) + "\n", "resolved.json")
    changed = [name for name in wanted if name in known and known[name] != wanted[name]]
    changed = [name for name in changed if name not in MAY_CHANGE]
    return [_other_parameters(run_id, changed, known, wanted)] if changed else []


def tags(resolved: dict[str, Any]) -> dict[str, str]:
    versions = {name: version(name) for name in INSTALLED}
    target = resolved["target"]["name"]
    return {"digest": resolved.get("digest", ""), "method": resolved["method"], "target": target, **versions}


def parameters(resolved: dict[str, Any]) -> dict[str, str]:
    """Return the values of a resolved config under dotted names, as MLflow takes both."""
    flat: dict[str, str] = {}
    for key in resolved.keys() - NO_PARAMETERS:
        _flatten(resolved[key], key, flat)
    return dict(sorted(flat.items()))


def metrics_of(logs: dict[str, Any], step: int) -> list[Metric]:
    from mlflow.entities import Metric  # noqa: PLC0415 - as above

    now = int(time.time() * 1000)
    numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
    return [Metric(allowed(name), value, now, step) for name, value in numbers.items()]


def allowed(name: str) -> str:
    return NOT_IN_NAMES.sub("_", name)[:LONGEST_NAME]


def page(tracking: Tracking, run: Run) -> str:
    """Return where a person finds the run."""
    uri, info = without_credentials(server(tracking)), run.info
    if uri.startswith("http"):
        return f"{uri.rstrip('/')}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
    return f"run {info.run_id} in {uri}"


def reason(error: BaseException) -> str:
    """Return what went wrong in few words, without the credentials that a URI may hold."""
    text = without_credentials(str(error).strip())
    causes = [next(filter(None, groups)) for groups in CAUSES.findall(text)]
    return causes[-1].lower() if causes else text.partition("\n")[0].rpartition(REQUEST)[2]


def _flatten(value: Any, name: str, flat: dict[str, str]) -> None:
    is_long = isinstance(value, list) and len(value) > LONGEST_LIST
    if isinstance(value, dict) and value:
        items = [*value.items()]
    elif isinstance(value, list) and not is_long and any(isinstance(item, dict) for item in value):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        flat[allowed(name.replace("/", "_"))] = _shortened(value)
        return
    for key, item in items:
        _flatten(item, f"{name}.{key}", flat)


def _shortened(value: Any) -> str:
    """Return a value as text that MLflow takes; of a long one the start, and where the rest is."""
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= LONGEST_VALUE:
        return text
    rest = f" … ({len(text):,} characters, whole in resolved.json)"
    return text[: LONGEST_VALUE - len(rest)] + rest


def _other_parameters(
    run_id: str, names: list[str], known: dict[str, str], wanted: dict[str, str]
) -> Diagnostic:
    listed = tuple(f"{name}: {known[name][:80]} there, {wanted[name][:80]} here" for name in names)
    message = f"the MLflow run `{run_id}` began with other values, and keeps them"
    return Diagnostic("SG768", message, help="leave `run_id` out to begin a new run", notes=listed)
