"""Two processes give the losses of one at the same total batch, however they share the work."""

from __future__ import annotations

import io
import json
import sys
from functools import partial

import pytest
from commands import COMMAND, finish, losses
from rich.console import Console
from silogen_compiler.pipeline import compile_file
from silogen_runtime.train import train

# Trains one resolved config after the other in the same group of processes.
START = """
import json, sys
from rich.console import Console
from silogen_runtime.train import train
for path in sys.argv[1:]:
    train(json.load(open(path)), console=Console())
"""

ADAPTER = {
    "peft_type": "LORA",
    "peft_kwargs": {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear"},
}
FOUR_BITS = {"quantization_type": "bits-and-bytes", "load_in_4bit": True}
ASKED_EACH_STEP = {"method": "dpo", "training_args": {"learning_rate": 0.001}}
KINDS = {
    "full": {},
    "lora": {"peft_conf": ADAPTER},
    "qlora": {"peft_conf": ADAPTER, "quant_conf": FOUR_BITS},
    "dpo": ASKED_EACH_STEP,
    "dpo-precomputed": {
        **ASKED_EACH_STEP,
        "training_args": {"learning_rate": 0.001, "precompute_ref_log_probs": True},
    },
}
ZERO = {
    "zero-1": {"launch": {"strategy": "deepspeed", "zero_stage": 1}},
    "zero-2-lora": {"launch": {"strategy": "deepspeed", "zero_stage": 2}, "peft_conf": ADAPTER},
}


def train_alone(path):
    compiled = compile_file(str(path), world_size=1, settings=("launch=null",))
    return train(compiled.resolved, console=Console(file=io.StringIO())).losses


@pytest.fixture
def compare(config, start, tmp_path):
    """Return a function that trains each kind alone and with two processes."""
    return partial(_compare, config, start, tmp_path)


def _compare(config, start, tmp_path, kinds):
    expected, paths = {}, []
    for name, sections in kinds.items():
        expected[name] = train_alone(config(name, **sections))
        resolved = compile_file(str(tmp_path / f"{name}.yaml"), world_size=2).resolved
        resolved["trainer"]["args"]["output_dir"] = str(tmp_path / f"{name}-2")
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(resolved))
    (tmp_path / "start.py").write_text(START)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    code, printed = finish(start(*torchrun, "start.py", *map(str, paths)))
    assert code == 0, printed
    assert printed.count("2 processes x 2 per device x 2 accumulated") == len(kinds)
    for name, losses_of_one in expected.items():
        assert losses(tmp_path / f"{name}-2") == pytest.approx(losses_of_one, rel=1e-5, abs=1e-5), name


def test_two_processes_train_what_one_does(compare):
    compare(KINDS)


@pytest.mark.usefixtures("deepspeed")
@pytest.mark.xdist_group("deepspeed")
def test_zero_trains_what_one_process_does(compare):
    compare(ZERO)


@pytest.mark.usefixtures("deepspeed")
@pytest.mark.xdist_group("deepspeed")
def test_deepspeed_is_started_and_saves_the_model(config, start, tmp_path):
    launch = {"processes_per_node": 2, "strategy": "deepspeed", "zero_stage": 2}
    path = config("zero", launch=launch)
    code, printed = finish(start(*COMMAND, str(path)))
    assert code == 0, printed
    assert "WARNING" not in printed
    assert losses(tmp_path / "zero") == pytest.approx(train_alone(config("alone")), rel=1e-5, abs=1e-5)
    assert (tmp_path / "zero" / "checkpoint-final" / "model.safetensors").exists()
