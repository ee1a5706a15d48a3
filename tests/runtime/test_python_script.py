"""The script that a config compiles to trains what `silogen train` trains."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
from silogen_compiler.emit import FORMATS
from silogen_compiler.load import load_text
from silogen_compiler.pipeline import compile_data
from silogen_runtime.records import CONFIG, LOCK, VERSIONS
from test_train import FOUR_BITS
from tiny import ARGS, LINES, LORA, conversation, losses, write_lines

if TYPE_CHECKING:
    from pathlib import Path

OF_SILOGEN = {"README.md", CONFIG, LOCK, VERSIONS}
PACKAGES = {"copy", "json", "os", "sys", "datasets", "peft", "torch", "transformers", "trl"}


@pytest.fixture
def compare(run, tmp_path):
    """Return a function that trains with silogen and with the script, and compares what they leave behind."""

    def both(resolved):
        run(resolved)
        expected = losses(tmp_path / "out")
        shutil.move(tmp_path / "out", tmp_path / "silogen")
        train(resolved, tmp_path)
        history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
        assert len(expected) > 1
        assert [line["loss"] for line in history if "loss" in line] == pytest.approx(expected, rel=1e-6)
        saved, by_silogen = (files(tmp_path / name / "checkpoint-final") for name in ("out", "silogen"))
        assert saved == by_silogen
        return history

    return both


def train(resolved, folder: Path) -> None:
    """Run the script that a resolved config is written as."""
    script = folder / "train.py"
    script.write_text(FORMATS["python"](resolved, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # silogen keeps the libraries' own quiet
        runpy.run_path(str(script), run_name="__main__")


def files(folder: Path) -> dict[str, bytes]:
    """Return what each file of a saved model holds, but those that silogen alone writes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in OF_SILOGEN}


@pytest.mark.parametrize("loss_on", ["all", "assistant"])
@pytest.mark.parametrize("peft", [None, LORA], ids=["full", "lora"])
def test_the_script_trains_to_the_same_weights(resolve, compare, peft, loss_on):
    compare(resolve(peft=peft, data={"loss_on": loss_on}))


def test_a_validation_split_gives_the_same_validation_losses(resolve, compare, tmp_path):
    data = {"validation": {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 3}}
    history = compare(resolve(data=data, args={"eval_strategy": "steps", "eval_steps": 2}))
    lines = (tmp_path / "silogen" / "metrics.jsonl").read_text().splitlines()
    expected = [line["eval_loss"] for line in map(json.loads, lines) if "eval_loss" in line]
    assert len(expected) > 1
    assert [line["eval_loss"] for line in history if "eval_loss" in line] == pytest.approx(expected, rel=1e-6)


def test_mixed_files_with_validation_files(resolve, compare, tmp_path):
    paths = [write_lines(tmp_path / f"{name}.jsonl", LINES[:count]) for name, count in (("a", 7), ("b", 3))]
    train = {
        "type": "PRECOMPUTE_WEIGHTED_MIX",
        "datasets": [
            {"path": path, "sampling_weight": weight} for path, weight in zip(paths, (2.0, 1.0), strict=True)
        ],
        "seed": 5,
    }
    validation = {"type": "CONCATENATION", "datasets": [{"path": path} for path in paths]}
    data = {"train": train, "validation": validation, "max_length": 60, "length_handling": "truncate"}
    compare(resolve(data=data, args={"eval_strategy": "epoch"}))


def test_long_examples_and_those_with_nothing_to_learn_are_left_out(resolve, compare):
    lines = [*LINES, conversation("x " * 200, "Long."), conversation("Only a question?")]
    compare(resolve(lines=lines, data={"max_length": 100}))


@pytest.mark.parametrize("template", ["mistral-with-system", "poro", "simplified-llama31", "keep-original"])
def test_every_template_with_a_model_that_begins_texts_with_bos(resolve, compare, bos_model, template):
    compare(resolve(model=bos_model, template=template))


@pytest.mark.parametrize("peft", [None, LORA], ids=["full", "lora"])
def test_new_tokens_grow_the_model(resolve, compare, bos_model, peft):
    compare(resolve(model=bos_model, peft=peft))


def test_padding_with_the_end_token(resolve, compare, bos_model):
    strategy = {"missing_pad_token_strategy": "unk-convert-to-eos", "padding_side": "left"}
    compare(resolve(model=bos_model, template="keep-original", tokenizer=strategy))


@pytest.mark.parametrize("quantization", [FOUR_BITS, {"load_in_8bit": True}], ids=["4-bit", "8-bit"])
def test_quantized(resolve, compare, quantization):
    quantization = {"class": "BitsAndBytesConfig", "kwargs": quantization}
    compare(resolve(template="keep-original", peft=LORA, quantization=quantization))


def test_an_earlier_adapter_goes_on(resolve, run, compare, tmp_path):
    outcome, _ = run(resolve(template="keep-original", peft=LORA))
    adapter = shutil.move(outcome.final_checkpoint, tmp_path / "adapter")
    compare(resolve(template="keep-original", peft={"pretrained": str(adapter)}))


def test_packing(resolve, compare):
    compare(resolve(args={"packing": True, "padding_free": False}))


def test_another_adapter_and_determinism(resolve, compare):
    peft = {"class": "IA3Config", "kwargs": {"task_type": "CAUSAL_LM", "target_modules": ["down_proj"]}}
    peft["kwargs"]["feedforward_modules"] = ["down_proj"]
    compare(resolve(template="keep-original", peft=peft, args={"full_determinism": False, "seed": 7}))


def test_the_script_runs_by_itself(resolve, tmp_path):
    resolved = resolve(peft=LORA, args={"max_steps": 2})
    text = FORMATS["python"](resolved, {})
    (tmp_path / "train.py").write_text(text)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "train.py"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "out" / "checkpoint-final" / "adapter_model.safetensors").exists()
    assert imported(text) <= PACKAGES
    assert load_text("train.py", text).data == resolved


def imported(text: str) -> set[str]:
    """Return the packages that a script imports."""
    nodes = list(ast.walk(ast.parse(text)))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module.partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    return whole | parts


def test_going_on_from_a_checkpoint(resolve, compare, tmp_path):
    run = {"resume_from_checkpoint": "auto"}
    resolved = resolve(args={"save_strategy": "steps", "save_steps": 4}, run=run)
    compare(resolved)
    expected = files(tmp_path / "out" / "checkpoint-final")
    shutil.rmtree(tmp_path / "out" / "checkpoint-8")
    shutil.rmtree(tmp_path / "out" / "checkpoint-final")
    train(resolved, tmp_path)
    assert files(tmp_path / "out" / "checkpoint-final") == expected


PAIRS = [
    ("What is the capital of Finland?", "The capital of Finland is Helsinki.", "Five."),
    ("Add two and three.", "The answer is five.", "The answer is six, or what is the capital?"),
    ("Write f.", "def f(x):\n    return 1", "if x:\n        return 0"),
    ("Add " * 40, "A lot.", "Nothing."),
] * 4


@pytest.fixture
def resolve_pairs(tmp_path, byte_level_model):
    """Return a function that compiles a config which trains on preferences, with changes."""

    def build(*, model=byte_level_model, args=(), **changes):
        keys = ("prompt_messages", "chosen_messages", "rejected_messages")
        roles = ("user", "assistant", "assistant")
        lines = [
            {
                key: [{"role": role, "content": text}]
                for key, role, text in zip(keys, roles, pair, strict=True)
            }
            for pair in PAIRS
        ]
        source = {
            "type": "CONCATENATION",
            "datasets": [{"path": write_lines(tmp_path / "data.jsonl", lines)}],
        }
        config = {
            "method": "dpo",
            "data_conf": {
                "training_data": source,
                "validation_data": {"type": "NONE"},
                "chat_template_name": "keep-original",
                "missing_pad_token_strategy": "eos-repurpose",
            },
            "training_args": {
                **ARGS,
                "output_dir": str(tmp_path / "out"),
                "max_length": 60,
                "max_prompt_length": 24,
                **dict(args),
            },
            "batchsize_conf": {"total_train_batch_size": 4, "max_per_device_train_batch_size": 4},
            "peft_conf": {"peft_type": "NO_PEFT"},
            "run_conf": {"model": model},
        }
        return compile_data(config, environment={}).resolved | changes

    return build


@pytest.mark.parametrize("peft", [None, LORA], ids=["full", "lora"])
def test_dpo(resolve_pairs, compare, peft):
    compare(resolve_pairs(peft=peft))


@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode is deprecated:FutureWarning")
def test_dpo_that_keeps_the_end_and_works_out_the_reference_before(resolve_pairs, compare, bos_model):
    args = {"truncation_mode": "keep_end", "precompute_ref_log_probs": True, "max_length": 48}
    compare(resolve_pairs(model=bos_model, args=args))


def test_dpo_goes_on_with_an_earlier_adapter(resolve, run, resolve_pairs, compare, tmp_path):
    outcome, _ = run(resolve(template="keep-original", peft=LORA))
    adapter = shutil.move(outcome.final_checkpoint, tmp_path / "adapter")
    compare(resolve_pairs(peft={"pretrained": str(adapter)}))


def test_a_script_for_dpo_runs(resolve_pairs, tmp_path):
    train(resolve_pairs(peft=LORA), tmp_path)
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    first, *_, last = [line["loss"] for line in history if "loss" in line]
    assert last < first
    assert (tmp_path / "out" / "checkpoint-final" / "adapter_model.safetensors").exists()
