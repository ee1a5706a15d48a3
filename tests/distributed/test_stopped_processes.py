"""Two processes that are stopped by a signal, or of which one is killed, go on to the same weights."""

from __future__ import annotations

import signal

from commands import COMMAND, finish, losses, metrics, wait_for

TWO = {"processes_per_node": 2}

SAVING = {"save_strategy": "steps", "save_steps": 5, "max_steps": 50}
AUTO = {"resume_from_checkpoint": "auto"}


def begin(start, path, out, step):
    """Start a run; return it when it has logged `step`."""
    process = start(*COMMAND, str(path))
    wait_for(lambda: newest_step(out) >= step)
    return process


def newest_step(out):
    return max((line["step"] for line in metrics(out)), default=0) if (out / "metrics.jsonl").exists() else 0


def rank(process, number):
    (found,) = [child for child in process.children() if child.environ().get("RANK") == number]
    return found


def test_two_processes_go_on_to_the_same_weights(config, start, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    code, printed = finish(start(*COMMAND, str(config("whole", launch=TWO, training_args=SAVING))))
    assert code == 0, printed
    path = config(launch=TWO, training_args=SAVING, run_conf=AUTO)

    stopped = begin(start, path, out, 2)
    rank(stopped, "1").send_signal(signal.SIGTERM)  # one of them is enough
    code, printed = finish(stopped)
    assert code == 143, printed
    step = newest_step(out)
    assert f"stopped; to go on from {out}/checkpoint-{step}, start it again\n" in printed

    killed = begin(start, path, out, step + 8)
    rank(killed, "1").kill()
    code, printed = finish(killed)
    assert code == 4, printed
    assert "error[SG744]: process 1 was killed by SIGKILL\n" in printed
    assert f"\nto go on from {out}/checkpoint-" in printed

    code, printed = finish(start(*COMMAND, str(path)))
    assert code == 0, printed
    name = "checkpoint-final/model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert losses(out) == losses(whole)
