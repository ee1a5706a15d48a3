"""Two processes give the losses of one at the same total batch, however they share the work."""

from __future__ import annotations

import io
import json
import sys
from importlib.util import find_spec

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
KINDS = {
    "full": {},
    "lora": {"peft_conf": ADAPTER},
    "qlora": {"peft_conf": ADAPTER, "quant_conf": FOUR_BITS},
}


def train_alone(path):
    compiled = compile_file(str(path), world_size=1, settings=("launch=null",))
    return train(compiled.resolved, console=Console(file=io.StringIO())).losses


def test_two_processes_train_what_one_does(config, start, tmp_path):
    expected, paths = {}, []
    for name, sections in KINDS.items():
        expected[name] = train_alone(config(name, **sections))
        resolved = compile_file(str(tmp_path / f"{name}.yaml"), world_size=2).resolved
        resolved["trainer"]["args"]["output_dir"] = str(tmp_path / f"{name}-2")
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(resolved))
    (tmp_path / "start.py").write_text(START)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    code, printed = finish(start(*torchrun, "start.py", *map(str, paths)))
    assert code == 0, printed
    assert printed.count("2 processes x 2 per device x 2 accumulated") == len(KINDS)
    for name, losses_of_one in expected.items():
        assert losses(tmp_path / f"{name}-2") == pytest.approx(losses_of_one, rel=1e-5, abs=1e-5), name


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize("stage", [1, 2])
def test_deepspeed_trains_what_one_process_does(config, start, tmp_path, stage):
    launch = {"processes_per_node": 2, "strategy": "deepspeed", "zero_stage": stage}
    path = config("zero", launch=launch)
    code, printed = finish(start(*COMMAND, str(path)))
    assert code == 0, printed
    sharded = losses(tmp_path / "zero")
    assert (tmp_path / "zero" / "checkpoint-final" / "model.safetensors").exists()
    assert "WARNING" not in printed
    assert sharded == pytest.approx(train_alone(config("alone")), rel=1e-5, abs=1e-5)
