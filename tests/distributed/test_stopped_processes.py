"""Two processes that are stopped by a signal, or of which one is killed, go on to the same weights."""

from __future__ import annotations

import shutil
import signal

from commands import COMMAND, finish, free_port, losses, metrics, wait_for

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


def test_machines_that_share_no_disk_go_on_from_the_same_step(config, start, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    sections = {
        "training_args": {
            "save_strategy": "steps",
            "save_steps": 2,
            "max_steps": 4,
            "save_on_each_node": True,
        },
        "peft_conf": {"peft_type": "LORA", "peft_kwargs": {"target_modules": "all-linear"}},
        "run_conf": AUTO,
    }

    def train():
        """Train with two processes, each of them the only one of its machine."""
        port = free_port()
        return [finish(process) for process in [begin_alone(rank, port) for rank in (0, 1)]]

    def begin_alone(rank, port):
        path = config((first, second)[rank].name, **sections)
        place = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
        return start(*COMMAND, str(path), MASTER_ADDR="localhost", MASTER_PORT=port, **place)

    assert [code for code, _ in train()] == [0, 0]
    whole = losses(first)
    assert not (first / "checkpoint-2" / "rng_state_1.pth").exists()
    shutil.rmtree(second / "checkpoint-4")
    (code, printed), _ = train()
    assert code == 4
    assert "error[SG738]: the processes would go on from different steps: 2 to 4\n" in printed
    shutil.rmtree(first / "checkpoint-4")
    (code, printed), _ = train()
    assert code == 0, printed
    assert "4, from 2 on" in printed
    assert losses(first) == whole
