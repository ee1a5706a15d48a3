"""Trackers: what MLflow and TensorBoard hold of a run, and a server that is gone."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from rich.console import Console
from safetensors.torch import load_file
from silogen_compiler.diagnostics import Refused
from silogen_config import ResolvedConfig
from silogen_runtime.mlflow_client import parameters
from silogen_runtime.signals import Stopped
from silogen_runtime.tracking import check_tracking, tracked
from silogen_runtime.train import prepare, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import resume, with_args

# mlflow uses an older way of sqlalchemy, and leaves what it read from sqlite to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
MLFLOW = {"report_to": ["mlflow"], "max_steps": 8}


class Server:
    """`mlflow server` on a free port, with its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self) -> None:
        store = f"sqlite:///{self.folder}/server.db"
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", store, "--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)

    def answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
            return True
        return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def holds(self, text: str) -> list[Path]:
        """Return the files of the server in which `text` stands."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return [path for path in files if text.encode() in path.read_bytes()]


class Screen(io.StringIO):
    """Text that a run prints; calls `do` when `line` is printed first."""

    def __init__(self, events: dict) -> None:
        super().__init__()
        self.events = dict(events)

    def write(self, text: str) -> int:
        for line in [line for line in self.events if line in text]:
            self.events.pop(line)()
        return super().write(text)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("mlflow"))
    yield server
    if server.process:
        server.kill()


@pytest.fixture
def server(one_server):
    if one_server.process is None:
        one_server.start()
    return one_server


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the URI of a file of MLflow's: a new one takes two seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def track(resolve):
    """Return a function that resolves a run of 8 steps that is tracked at `uri`."""

    def build(uri, *, args=(), **changes):
        section = {"mlflow_server_uri": uri, "experiment_name": "tiny", "run_id": None, "run_name": None}
        section |= {"hf_mlflow_log_artifacts": "False", **changes}
        return resolve(tracking=section, args={**MLFLOW, **dict(args)})

    return build


def watched(config, **events):
    """Train; at the steps that `events` name (step_3=function), call something. Return outcome and screen."""
    screen = Screen({f"step {name.removeprefix('step_')}/": do for name, do in events.items()})
    outcome = train(config, console=Console(file=screen, width=120))
    return outcome, screen.getvalue()


def runs(uri, name="tiny"):
    client = mlflow.MlflowClient(uri)
    return client, client.search_runs([client.get_experiment_by_name(name).experiment_id])


def logged(folder, key):
    lines = map(json.loads, (folder / "out" / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line[key]) for line in lines if key in line]


def history(client, run, key):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]


def weights(outcome):
    return {
        name: tensor.numpy().tobytes()
        for name, tensor in load_file(outcome.final_checkpoint / "model.safetensors").items()
    }


def test_mlflow_holds_the_whole_run(server, track, run, tmp_path, monkeypatch):
    monkeypatch.setenv("SERVER", server.url.replace("//", "//me:hunter2@"))
    uploads = {"save_strategy": "steps", "save_steps": 4, "run_name": "first"}
    config = track("${env:SERVER}", args=uploads, hf_mlflow_log_artifacts="True", experiment_name="whole")
    _, screen = run(config)
    client, (found,) = runs(server.url, "whole")
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    for key in ("loss", "grad_norm", "learning_rate", "memory_gb"):
        assert history(client, found, key) == logged(tmp_path, key)
    assert found.data.params["trainer.args.learning_rate"] == "0.01"
    assert found.data.params["data.train.datasets.0.path"].endswith("data.jsonl")
    assert found.data.params["peft"] == "null"
    assert found.data.tags["silogen.digest"] == config["digest"]
    assert found.data.tags["silogen.transformers"] == config["target"]["transformers"]
    there = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert there == {"resolved.json", "checkpoint-4", "checkpoint-8"}
    file = client.download_artifacts(found.info.run_id, "resolved.json", str(tmp_path))
    assert json.loads(Path(file).read_text()) == config
    assert f"{server.url}/#/experiments/{found.info.experiment_id}/runs/{found.info.run_id}" in screen
    mine = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert server.holds("hunter2") == [path for path in mine if b"hunter2" in path.read_bytes()] == []
    assert "hunter2" not in screen


def test_a_run_id_goes_on_with_that_run(server, track, run, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 4}
    run(track(server.url, args={**saving, "max_steps": 4}, experiment_name="resumed"))
    client, (first,) = runs(server.url, "resumed")
    config = track(
        server.url, args=saving, experiment_name="resumed", run_id=first.info.run_id, run_name="no"
    )
    config["run"]["resume_from_checkpoint"] = "auto"
    outcome, screen = run(config)
    (found,) = runs(server.url, "resumed")[1]
    assert found.info.run_name == first.info.run_name
    assert history(client, found, "loss") == logged(tmp_path, "loss")
    assert [d.code for d in outcome.warnings] == ["SG768"]
    assert "trainer.args.max_steps: 4 there, 8 here" in screen
    assert "resume_from_checkpoint" not in screen


def test_runs_of_the_same_seed_have_names_of_their_own(track, run, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for step in (1, 2):
        run(track(uri, args={"max_steps": step}))
    first, second = runs(uri)[1]
    assert first.info.run_name != second.info.run_name


def test_a_file_needs_no_server(track, run, tmp_path, monkeypatch):
    for name in ("TRACKING_URI", "EXPERIMENT_NAME", "RUN_ID"):
        monkeypatch.setenv(f"MLFLOW_{name}", "the config alone counts")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/deep/mlflow.db"
    _, screen = run(track(uri))
    client, (found,) = runs(uri)
    assert history(client, found, "loss") == logged(tmp_path, "loss")
    assert [*tmp_path.glob("deep/mlartifacts/*/artifacts/resolved.json")]
    assert not Path("mlruns").exists()
    assert f"run {found.info.run_id} in {uri}" in screen


@pytest.mark.parametrize("problem", ["diverged", "interrupted"])
def test_a_run_that_ends_early_is_not_finished_in_mlflow(track, store, problem):
    def interrupt():
        raise KeyboardInterrupt

    if problem == "diverged":
        with pytest.raises(Refused, match="SG721"):
            watched(track(store, args={"learning_rate": 1e20}, experiment_name=problem))
    else:
        with pytest.raises(KeyboardInterrupt):
            watched(track(store, experiment_name=problem), step_3=interrupt)
    assert runs(store, problem)[1][0].info.status == {"diverged": "FAILED", "interrupted": "KILLED"}[problem]


def refused(config) -> str:
    """Return why a run does not start; nothing is loaded until then."""
    with pytest.raises(Refused) as found:
        prepare(ResolvedConfig.model_validate(config), config)
    (finding,) = found.value.diagnostics
    assert finding.code == "SG731"
    return finding.message


def test_what_mlflow_lacks_is_told_before_anything_is_loaded(track, store, tmp_path):
    uri = store
    client = mlflow.MlflowClient(uri)
    other, tiny, gone = (client.create_experiment(name, str(tmp_path)) for name in ("other", "tiny", "gone"))
    client.delete_experiment(gone)
    elsewhere, deleted = (client.create_run(experiment).info.run_id for experiment in (other, tiny))
    client.delete_run(deleted)
    assert refused(track(uri, experiment_name="gone")).endswith("the experiment `gone` is deleted")
    assert "not found" in refused(track(uri, run_id="123"))
    assert refused(track(uri, run_id=elsewhere)).endswith(f"`{elsewhere}` is not in the experiment `tiny`")
    assert refused(track(uri, run_id=deleted)).endswith(f"the run `{deleted}` is deleted")
    (tmp_path / "text").write_text("no database")
    assert "not a database" in refused(track(f"sqlite:///{tmp_path}/text"))


@pytest.mark.parametrize("uri", ["http://me:hunter2@127.0.0.1:9", "http://me:hunter2@nowhere.invalid:5000"])
def test_a_server_that_does_not_answer_is_told_before_anything_is_loaded(track, uri):
    said = refused(track(uri))
    assert said.startswith(f"MLflow at `{uri.replace('me:hunter2@', '')}` refuses: ")
    assert len(said) < 100
    assert "hunter2" not in said


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"  # of an answer whose body is to come
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "resets", "expected"),
    [
        (b"", False, "connection aborted"),
        (b"", True, "connection reset by peer"),
        (HEAD, False, "connection broken"),
        (HEAD, True, "connection reset by peer"),
        (BUSY, False, "too many 503 error responses"),
        (REDIRECT, False, "Exceeded 30 redirects."),
    ],
    ids=["closed", "reset", "half-closed", "half-reset", "busy", "redirected"],
)
def test_a_server_that_breaks_off_is_told_in_few_words(track, answer, resets, expected):
    class BreaksOff(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(answer)
            if resets:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.request.close()

    with socketserver.TCPServer(("127.0.0.1", 0), BreaksOff) as server:
        threading.Thread(target=server.serve_forever).start()
        uri = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            assert refused(track(uri)) == f"MLflow at `{uri}` refuses: {expected}"
        finally:
            server.shutdown()


def test_only_the_first_process_tracks(track, monkeypatch):
    config = ResolvedConfig.model_validate(track("http://127.0.0.1:9"))
    monkeypatch.setenv("RANK", "1")
    assert list(check_tracking(config)) == []
    with tracked(None, config, {}, Console(quiet=True)) as findings:
        assert findings == []


def test_parameters_are_what_mlflow_takes(store, tmp_path):
    files = [{"path": f"{index}.jsonl"} for index in range(1000)]
    values = {
        "a": "x" * 10_000,
        "b": {"q/k.*[0-9]": None},
        "c": [1, 2],
        "d": files,
        "e": {},
        "f": [{"g": True}],
    }
    flat = parameters({**values, "digest": "no"})
    assert list(flat) == ["a", "b.q_k._[0-9]".replace("[", "_").replace("]", "_"), "c", "d", "e", "f.0.g"]
    assert flat["a"].endswith("xx … (10,000 characters, whole in resolved.json)")
    assert flat["d"].startswith('[{"path": "0.jsonl"}, ')
    assert {len(flat[name]) for name in "ad"} == {6000}
    assert (flat["c"], flat["e"], flat["f.0.g"]) == ("[1, 2]", "{}", "true")
    client = mlflow.MlflowClient(store)
    run = client.create_run(client.create_experiment("parameters", str(tmp_path)))
    client.log_batch(run.info.run_id, params=[mlflow.entities.Param(*item) for item in flat.items()])
    assert client.get_run(run.info.run_id).data.params == flat


def test_a_server_that_comes_back_gets_everything(server, track, tmp_path):
    outcome, screen = watched(
        track(server.url, experiment_name="back"), step_3=server.kill, step_6=server.start
    )
    client, (found,) = runs(server.url, "back")
    assert history(client, found, "loss") == logged(tmp_path, "loss")
    assert found.info.status == "FINISHED"
    assert outcome.warnings == []
    assert screen.count("SG767") == 1


def test_a_run_that_is_stopped_without_its_server_goes_on_to_the_same_weights(server, track, run, tmp_path):
    config = resume(track(server.url, experiment_name="stopped"), how="auto")
    plain = with_args({**config, "tracking": None}, output_dir=str(tmp_path / "plain"), report_to="none")
    whole, _ = run(plain)
    with pytest.raises(Stopped):
        watched(config, step_3=server.kill, step_5=lambda: signal.raise_signal(signal.SIGTERM))
    server.start()
    rest, screen = watched(config)
    assert "8, from 6 on" in screen  # the step after the one that was printed
    assert weights(rest) == weights(whole)
    client, found = runs(server.url, "stopped")
    assert dict(logged(tmp_path, "loss")[6:]).items() <= dict(history(client, found[0], "loss")).items()


def test_tensorboard_reads_the_events(resolve, run, tmp_path):
    config = resolve(args={"report_to": ["tensorboard"], "max_steps": 3})
    config["trainer"]["environment"] = {"TENSORBOARD_LOGGING_DIR": str(tmp_path / "events")}
    run(config)
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    scalars = {event.step: event.value for event in events.Scalars("train/loss")}
    assert scalars == pytest.approx(dict(logged(tmp_path, "loss")))


def test_a_server_that_is_gone_changes_no_weight(server, track, run, tmp_path):  # the last: it stays away
    plain, _ = run({**track(server.url, args={"report_to": "none"}), "tracking": None})
    expected, lines = weights(plain), logged(tmp_path, "loss")
    outcome, screen = watched(track(server.url), step_3=server.kill)
    assert weights(outcome) == expected
    assert logged(tmp_path, "loss") == lines
    stopped, ended = [line for line in screen.splitlines() if "SG767" in line]
    assert re.fullmatch(
        r"warning\[SG767\]: MLflow does not take the metrics: connection (refused|reset by peer|broken)",
        stopped,
    )  # the last two where an answer was on its way
    (lost,) = outcome.warnings
    assert lost.message.startswith("MLflow lacks what was logged from step ")
    assert lost.message in ended
