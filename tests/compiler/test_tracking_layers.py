"""MLflow's settings: the command line over the config over MLflow's own environment variables."""

from __future__ import annotations

import json

import pytest
from paths import ROOT
from silogen_compiler.pipeline import compile_text
from silogen_compiler.render import RENDERERS, renderer

BASE = (ROOT / "examples/first-run/base.yaml").read_text()
SECTION = "tracking: {mlflow_server_uri: http://config, experiment_name: of-config}\n"
VARIABLES = {"MLFLOW_TRACKING_URI": "http://variable", "MLFLOW_EXPERIMENT_NAME": "of-variable"}


def compiled(text="", *settings, environment=None):
    return compile_text("run.yaml", BASE + text, settings=settings, environment=environment or {})


def tracked(*args, **kwargs):
    found = compiled(*args, **kwargs)
    assert found.resolved, found.diagnostics
    return found.resolved["tracking"]


def test_without_any_of_them_mlflow_is_off():
    assert tracked() is None
    assert tracked(environment={"MLFLOW_EXPERIMENT_NAME": "a", "MLFLOW_TRACKING_URI": ""}) is None
    assert compiled().resolved["trainer"]["args"]["report_to"] == "none"


def test_the_environment_alone_turns_it_on():
    found = compiled(environment={**VARIABLES, "MLFLOW_RUN_ID": "12", "MLFLOW_RUN_NAME": "n"})
    assert found.resolved["tracking"] == {
        "mlflow_server_uri": "http://variable",
        "experiment_name": "of-variable",
        "run_id": "12",
        "run_name": "n",
        "hf_mlflow_log_artifacts": "False",
    }
    assert found.resolved["trainer"]["args"]["report_to"] == ["mlflow"]
    assert found.origins["tracking", "run_id"].text == "environment MLFLOW_RUN_ID"


def test_a_server_alone_logs_to_the_experiment_that_mlflow_has_anyway():
    assert tracked(environment={"MLFLOW_TRACKING_URI": "http://a"})["experiment_name"] == "Default"
    found = compiled("tracking: {mlflow_server_uri: http://a}\n", environment={"MLFLOW_RUN_ID": "1"})
    assert [d.code for d in found.diagnostics] == ["SG202"]


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("mlflow_server_uri", "MLFLOW_TRACKING_URI"),
        ("experiment_name", "MLFLOW_EXPERIMENT_NAME"),
        ("run_id", "MLFLOW_RUN_ID"),
        ("run_name", "MLFLOW_RUN_NAME"),
        ("hf_mlflow_log_artifacts", "HF_MLFLOW_LOG_ARTIFACTS"),
    ],
)
def test_each_key_goes_by_itself(key, variable):
    required = [name for name in ("mlflow_server_uri", "experiment_name") if name != key]
    others = "tracking: {" + ", ".join(f"{name}: x" for name in required)
    environment = {variable: "3"}
    assert tracked(others + "}\n", environment=environment)[key] == "3"
    assert tracked(f"{others}, {key}: '2'}}\n", environment=environment)[key] == "2"
    setting = f"tracking.{key}=1"
    assert tracked(f"{others}, {key}: '2'}}\n", setting, environment=environment)[key] == "1"
    assert tracked("", setting, environment={**VARIABLES, **environment})[key] == "1"


def test_null_in_the_config_turns_it_off():
    assert tracked("tracking: null\n", environment=VARIABLES) is None
    assert tracked(SECTION, "tracking=null", environment=VARIABLES) is None


def test_all_trackers_are_right_where_the_environment_names_a_server():
    everything = "training_args.report_to=all"
    assert [d.code for d in compiled("", everything).diagnostics] == ["SG310"]
    assert tracked("", everything, environment=VARIABLES)["experiment_name"] == "of-variable"


SECRET = "http://me:hunter2@host/path"
SLASH = "postgresql://me:pa/hunter2@host/db?a=b@c"


@pytest.mark.parametrize(
    ("text", "environment", "uri", "codes"),
    [
        ("", {"MLFLOW_TRACKING_URI": SECRET}, "${env:MLFLOW_TRACKING_URI}", []),
        (SECTION.replace("http://config", "'${env:SERVER}'"), {"SERVER": SECRET}, "${env:SERVER}", []),
        (SECTION.replace("http://config", SECRET), VARIABLES, "http://host/path", ["SG313"]),
        (SECTION.replace("http://config", SLASH), VARIABLES, "postgresql://host/db?a=b@c", ["SG313"]),
    ],
    ids=["variable", "reference", "config", "slash"],
)
def test_credentials_are_in_no_output(text, environment, uri, codes):
    found = compiled(text, environment=environment)
    assert found.resolved["tracking"]["mlflow_server_uri"] == uri
    assert [d.code for d in found.diagnostics] == codes
    shown = "".join(renderer(form)(found.diagnostics, found.sources) for form in RENDERERS)
    assert "hunter2" not in shown + json.dumps(found.resolved) + str(found.origins)
