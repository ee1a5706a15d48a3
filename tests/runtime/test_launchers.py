"""What `silogen compile` writes for launchers starts a run: really started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from paths import CASES
from silogen_compiler.emit import FORMATS
from silogen_compiler.pipeline import compile_file
from tiny import LINES, write_lines


@pytest.fixture
def config(tmp_path, byte_level_model):
    """Return the path of a config that trains three steps on the CPU."""
    data = write_lines(tmp_path / "data.jsonl", LINES)
    config = yaml.safe_load((CASES / "valid" / "lora.yaml").read_text())
    config["data_conf"]["training_data"]["datasets"] = [{"path": data}]
    config["data_conf"]["missing_pad_token_strategy"] = "eos-repurpose"
    config["run_conf"]["model"] = byte_level_model
    config["training_args"] |= {"output_dir": str(tmp_path / "out"), "max_steps": 3, "use_cpu": True}
    path = tmp_path / "my run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def start(command, folder, **kwargs):
    """Run a launcher of the Python that the tests run in."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **kwargs
    )


def test_torchrun_starts_two_processes(config, tmp_path):
    compiled = compile_file(str(config), world_size=2, environment={})
    words = (config.name, "--set", "training_args.max_steps=2")
    done = start(FORMATS["torchrun"](compiled.resolved, compiled.origins, words), tmp_path, shell=True)
    assert done.returncode == 0, done.stderr
    assert "\n2 steps\n" in done.stderr
    assert "(2 processes x" in done.stderr


def test_accelerate_starts_a_run(config, tmp_path):
    compiled = compile_file(str(config), environment={})
    (tmp_path / "accelerate.yaml").write_text(FORMATS["accelerate"](compiled.resolved, compiled.origins))
    command = [
        "accelerate",
        "launch",
        "--config_file",
        "accelerate.yaml",
        "-m",
        "silogen_runtime",
        config.name,
    ]
    done = start(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\n3 steps\n" in done.stderr
