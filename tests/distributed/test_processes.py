"""`silogen train` with several processes: started by itself, stopped together, written once."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from commands import COMMAND, finish, losses, metrics, wait_for
from silogen_runtime.processes import first_to_fail
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

TWO = {"processes_per_node": 2}
SAVING = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}


def test_a_config_starts_its_processes_and_resumes_exactly(config, start, tmp_path):
    path = config(launch=TWO, training_args=SAVING)
    code, printed = finish(start(*COMMAND, str(path)))
    assert code == 0, printed
    out = tmp_path / "run"
    assert printed.count("2 processes x 2 per device x 2 accumulated") == 1
    assert printed.count("step 4/4") == 1
    assert printed.count("saved ") == 1
    assert json.loads((out / "resolved.json").read_text())["launch"]["world_size"] == 2
    assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4, 4]
    kept = {"checkpoint-2", "checkpoint-4", "checkpoint-final", "loss.png", "report.html", "metrics.jsonl"}
    kept |= {"resolved.json", "resolved.lock.json", "versions.json"}
    assert {entry.name for entry in out.iterdir()} == kept

    weights, whole = (out / "checkpoint-final" / "model.safetensors").read_bytes(), losses(out)
    shutil.rmtree(out / "checkpoint-4")
    shutil.rmtree(out / "checkpoint-final")
    path = config(launch=TWO, training_args=SAVING, run_conf={"resume_from_checkpoint": "auto"})
    code, printed = finish(start(*COMMAND, str(path)))
    assert code == 0, printed
    assert losses(out) == whole
    assert (out / "checkpoint-final" / "model.safetensors").read_bytes() == weights


def test_a_dry_run_of_several_processes_saves_nothing(config, start, tmp_path):
    code, printed = finish(start(*COMMAND, str(config(launch=TWO)), "--dry-run"))
    assert code == 0, printed
    assert printed.count("in the fullest of 2 processes") == 1
    assert printed.count("it fits; nothing was saved") == 1
    assert not (tmp_path / "run").exists()


def workers(process):
    """Return the processes that train, by rank."""
    children = [child for child in process.children() if "silogen_runtime" in child.cmdline()]
    return {child.environ()["RANK"]: child for child in children if "RANK" in child.environ()}


@pytest.fixture
def training(config, start, tmp_path):
    """Return a run of two processes in the midst of training, with these."""
    path = config(launch=TWO, training_args={"max_steps": 100_000})
    process = start(*COMMAND, str(path))
    wait_for(lambda: (tmp_path / "run" / "metrics.jsonl").exists() and metrics(tmp_path / "run"))
    return process, workers(process)


@pytest.fixture
def starting(config, start):
    """Return a run of two processes that have just been started, with these."""
    process = start(*COMMAND, str(config(launch=TWO)), PYTHONFAULTHANDLER="1")
    wait_for(lambda: sum(is_importing(worker) for worker in workers(process).values()) == 2)
    return process, workers(process)


def is_importing(worker):
    """Tell whether Python itself has started, so that a death leaves a trace."""
    return worker.cpu_times().user > 0.5


@pytest.mark.parametrize(
    ("moment", "sent", "shown"), [("training", signal.SIGKILL, 0), ("starting", signal.SIGABRT, 1)]
)
def test_a_rank_that_dies_stops_all(request, moment, sent, shown):
    process, ranks = request.getfixturevalue(moment)
    assert ranks.keys() == {"0", "1"}
    ranks["1"].send_signal(sent)
    code, printed = finish(process)
    assert code == 4, printed
    assert "process 1 of 2 failed; the others were stopped\n" in printed
    assert printed.count("error[") == 1
    assert f"error[SG744]: process 1 was killed by {sent.name}\n" in printed
    assert printed.count("the end of what it printed:\n  ") == shown
    assert not ranks["0"].is_running()


@pytest.mark.parametrize(
    ("seconds", "first"), [(1, 0), (30, 1)], ids=["killed by something else", "killed by torchrun"]
)
def test_the_first_of_several_to_fail_is_shown(tmp_path, seconds, first):
    (tmp_path / "error.json").write_text(json.dumps({"message": "SG718", "time": time.time() - seconds}))
    failures = {1: ProcessFailure(1, 1, 4, str(tmp_path / "error.json")), 0: ProcessFailure(0, 1, -9, "")}
    assert first_to_fail(failures)[0] == first


def test_a_signal_reaches_all(training, tmp_path):
    process, ranks = training
    process.send_signal(signal.SIGINT)
    code, printed = finish(process)
    assert code == 130, printed
    assert not psutil.wait_procs(ranks.values(), timeout=5)[1]
    assert "error" not in printed
    assert printed.count("SIGINT: saving a checkpoint at the end of this step, then stopping;") == 1
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert f"stopped; to go on from {checkpoint}, write `resume_from_checkpoint: auto`" in printed
    assert "Stopped: " in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_what_all_processes_find_is_said_once(config, start, tmp_path):
    path = config(launch=TWO)
    Path(tmp_path / "data.jsonl").unlink()
    code, printed = finish(start(*COMMAND, str(path)))
    assert code == 4
    assert printed.count("error[SG706]") == 1
