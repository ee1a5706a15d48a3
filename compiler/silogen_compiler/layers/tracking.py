"""MLflow's own environment variables: the layer below all others, for the section `tracking`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Span
from silogen_compiler.layers.merge import merge_two
from silogen_compiler.load import Layer, Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from silogen_compiler.load import Path

SERVER = "MLFLOW_TRACKING_URI"
VARIABLES = {
    "mlflow_server_uri": SERVER,
    "experiment_name": "MLFLOW_EXPERIMENT_NAME",
    "run_id": "MLFLOW_RUN_ID",
    "run_name": "MLFLOW_RUN_NAME",
    "hf_mlflow_log_artifacts": "HF_MLFLOW_LOG_ARTIFACTS",
}
EXPERIMENT = "Default"  # the one that MLflow logs to where none is named


def with_variables(layer: Layer, environment: Mapping[str, str]) -> Layer:
    """Return the layer with what it leaves out of `tracking` and MLflow's variables tell.

    Where there is no section, the variable for the server makes one; `tracking: null` stays as it is.
    """
    section = layer.data.get("tracking", {} if environment.get(SERVER) else None)
    if not isinstance(section, dict):
        return layer
    missing = {key: name for key, name in VARIABLES.items() if key not in section}
    values = {key: environment[name] for key, name in missing.items() if environment.get(name)}
    if not values:
        return layer
    below = _layer(values)
    if "mlflow_server_uri" in values and "experiment_name" not in section:
        values.setdefault("experiment_name", EXPERIMENT)
    return merge_two(below, layer)._replace(name=layer.name)


def _layer(values: dict[str, str]) -> Layer:
    """Return a layer in which each variable is a source of one line."""
    sources, marks, variables = {}, {}, {}
    for key, value in values.items():
        path: Path = ("tracking", key)
        name = variables[path] = VARIABLES[key]
        sources[name] = " ".join(value.splitlines())
        place = Span(name, 1, 1, len(sources[name]) + 1)
        marks[path] = Mark(place, place)
    return Layer("environment", sources, {"tracking": values}, marks, variables=variables)
