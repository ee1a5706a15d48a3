"""Configs built and compiled in Python."""

from __future__ import annotations

import pydantic
import pytest
from cases import CASES, inputs, settings_of
from silogen_compiler import Compiled, check, compile_data, compile_file
from silogen_compiler.load import load_text
from silogen_config import DPOExperimentConfig, SFTExperimentConfig

LORA = CASES / "valid" / "lora.yaml"


def _is_plain(path):
    """Tell whether models can hold the config: no older or left out keys, layers, references: for files."""
    text = path.read_text("utf-8-sig")
    untagged = "quant_conf" in text and "quantization_type" not in text
    findings = path.with_name(f"{path.name}.txt")
    older = findings.exists() and "[SG4" in findings.read_text("utf-8")
    return not (older or untagged or "extends:" in text or "${env:" in text)


PLAIN = {name: path for name, path in inputs("valid").items() if _is_plain(path)}


def test_a_file_compiles_to_a_typed_result():
    compiled = compile_file(str(LORA), target="hf-2026.11", world_size=2)
    assert isinstance(compiled, Compiled)
    assert compiled.resolved["launch"]["world_size"] == 2


def test_check_returns_the_findings():
    assert check(str(LORA)) == []
    assert {d.code for d in check(str(CASES / "invalid" / "misspelled-key.yaml"))} == {"SG201"}


def test_a_config_built_in_python_compiles_like_its_file():
    config = SFTExperimentConfig(
        data_conf={
            "training_data": {"type": "CONCATENATION", "datasets": [{"path": "data/train.jsonl"}]},
            "validation_data": {"type": "NONE"},
        },
        training_args={"learning_rate": 2e-5},
        batchsize_conf={"total_train_batch_size": 16, "max_per_device_train_batch_size": 4},
        peft_conf={"peft_type": "LORA", "peft_kwargs": {"r": 16, "target_modules": ["q_proj", "v_proj"]}},
        run_conf={"model": "models/base"},
        sft_args={"max_seq_length": 1024},
    )
    assert config.compile().resolved == compile_file(str(LORA)).resolved


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_compiles_like_its_file(name):
    path = PLAIN[name]
    data = load_text(path.name, path.read_text("utf-8-sig")).data
    model = DPOExperimentConfig if data.get("method") == "dpo" else SFTExperimentConfig
    built = model.model_validate(data)
    options = settings_of(path)
    expected = compile_data(data, environment={}, **options)
    assert built.compile(environment={}, **options).resolved == expected.resolved


def test_a_mistake_is_found_while_building():
    with pytest.raises(pydantic.ValidationError, match="learning_rte"):
        SFTExperimentConfig.model_validate({"training_args": {"learning_rte": 1}})
