"""Configs for runs of several processes, and the commands that run. `make test-distributed` runs these."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import psutil
import pytest
import yaml
from commands import ENVIRONMENT
from extensions import build_extensions
from paths import ROOT

sys.path.append(str(ROOT / "tests" / "runtime"))

from tiny import LINES, PAIRS, byte_level_tokenizer, save_model, write_lines


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"), byte_level_tokenizer(), spare_rows=8)


@pytest.fixture(scope="session")
def deepspeed():
    """DeepSpeed, with what it compiles at its first use, which can take longer than a test may."""
    if find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    build_extensions()


@pytest.fixture
def config(tmp_path, model):
    """Return a function that writes a config, with changes by section, and returns its path."""

    def write(name="run", **sections):
        config = {
            "data_conf": {
                "training_data": {
                    "type": "CONCATENATION",
                    "datasets": [{"path": write_lines(tmp_path / "data.jsonl", LINES)}],
                },
                "validation_data": {"type": "NONE"},
                "chat_template_name": "chat-ml",
                "missing_pad_token_strategy": "eos-repurpose",
            },
            "training_args": {
                "learning_rate": 0.01,
                "lr_scheduler_type": "constant",
                "max_steps": 4,
                "logging_steps": 1,
                "save_strategy": "no",
                "use_cpu": True,
                "output_dir": str(tmp_path / name),
            },
            "batchsize_conf": {"total_train_batch_size": 8, "max_per_device_train_batch_size": 2},
            "peft_conf": {"peft_type": "NO_PEFT"},
            "run_conf": {"model": model},
            "sft_args": {"max_seq_length": 256},
        }
        if sections.get("method") == "dpo":
            del config["sft_args"]
            config["data_conf"]["training_data"]["datasets"] = [
                {"path": write_lines(tmp_path / "pairs.jsonl", PAIRS)}
            ]
            config["data_conf"]["chat_template_name"] = "keep-original"
        for section, changes in sections.items():
            is_section = isinstance(changes, dict)
            config[section] = {**(config.get(section) or {}), **changes} if is_section else changes
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a command; whatever of it is left at the end of the test is killed."""
    started = []

    def run(*command, **variables):
        log = (tmp_path / f"{len(started)}.log").open("w+")
        process = psutil.Popen(
            command, env={**ENVIRONMENT, **variables}, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
        process.log = log
        started.append(process)
        return process

    yield run
    for process in started:
        if process.is_running():
            for child in [*process.children(recursive=True), process]:
                child.kill()
        process.wait()
        process.log.close()
