"""A run that is killed at random moments, again and again, ends in the same weights as one that is not.

`make test` kills it three times, `make test-faults` twenty times. A failure names its seed, with which
`SILOGEN_KILL_SEED=SEED` does the same again, as far as the machine is as fast.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import ROOT

sys.path.append(str(ROOT / "tests" / "runtime"))

from tiny import LORA, byte_level_tokenizer, losses, resolved_config, save_model

KILLS = int(os.environ.get("SILOGEN_KILLS", "3"))
SEED = int(os.environ.get("SILOGEN_KILL_SEED", random.randrange(10**6)))
SAVING = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 2, "max_steps": 8 * KILLS + 20}
PATIENCE = 100  # seconds


@pytest.fixture
def start(tmp_path):
    """Return a function that starts to train a config and returns the process, with how to wait for it."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    warm = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("warm.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
    )

    def train(config: dict) -> int:
        warm.stdin.write(json.dumps(config) + "\n")
        warm.stdin.flush()
        return int(warm.stdout.readline())

    train.ended = lambda: int(warm.stdout.readline())
    yield train
    warm.stdin.close()
    warm.kill()
    warm.wait()
    warm.stdout.close()


def newest_step(path: Path) -> int:
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return max((line["step"] for line in whole), default=0)


def newest_checkpoint(out: Path) -> int:
    names = os.listdir(out) if out.exists() else []  # noqa: PTH208 - folders come and go meanwhile
    marks = [out / name / "trainer_state.json" for name in names if name.startswith("checkpoint-")]
    return max((int(mark.parent.name.split("-")[1]) for mark in marks if mark.exists()), default=0)


def kill(process: int, out: Path, chance: random.Random, *, least: int) -> None:
    """Kill a run a few steps after its newest checkpoint, or at its start if one before got as far."""
    until, end = newest_checkpoint(out) + chance.randrange(least, 8), time.monotonic() + PATIENCE
    time.sleep(chance.uniform(0, 0.5))
    while newest_step(out / "metrics.jsonl") < until and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.05))
    os.kill(process, signal.SIGKILL)


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_weights(tmp_path, start):
    print(f"SILOGEN_KILL_SEED={SEED}")  # noqa: T201 - shown where the test fails
    chance = random.Random(SEED)
    model = save_model(tmp_path / "model", byte_level_tokenizer(), spare_rows=8)
    config = resolved_config(tmp_path, model=model, peft=LORA, args=SAVING)
    config["run"]["resume_from_checkpoint"] = "auto"
    whole, out = tmp_path / "whole", tmp_path / "out"
    apart = json.loads(json.dumps(config))
    apart["trainer"]["args"]["output_dir"] = str(whole)
    start(apart)
    assert start.ended() == 0

    for turn in range(KILLS):
        kill(start(config), out, chance, least=0 if turn else 4)  # the first time after a checkpoint
        assert start.ended() == -signal.SIGKILL
    assert newest_checkpoint(out) > 0
    start(config)
    assert start.ended() == 0
    name = "checkpoint-final/adapter_model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert losses(out) == losses(whole)
