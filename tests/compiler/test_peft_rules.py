"""What silogen refuses among an adapter's arguments, peft refuses; what it lets pass, peft takes."""

from __future__ import annotations

import json

import peft
import pytest
import torch
import transformers
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from silogen_compiler.load import load_text
from silogen_compiler.rules.general import check_rules
from silogen_compiler.rules.peft import LORA_VARIANTS
from silogen_compiler.rules.peft_refusals import (
    NO_LAYERS_OF_TEXT,
    NO_PATTERN_ALONE,
    NO_PATTERN_OF_TEXT,
    REFUSALS,
)
from silogen_compiler.validate import validate
from silogen_compiler.values import Values

REQUIRED = {
    "ADALORA": {"total_step": 100},
    "CPT": {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 1]},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 2},
}
TEXT = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Sort: "}

# Each is refused at its last argument or, where another is named, at that.
REFUSED = [
    *((kind, {"target_modules": ".*q", "layers_to_transform": [0]}) for kind in sorted(NO_LAYERS_OF_TEXT)),
    *((kind, {"target_modules": ".*q", "layers_pattern": "layers"}) for kind in sorted(NO_PATTERN_OF_TEXT)),
    *((kind, {"target_modules": ["q"], "layers_pattern": "layers"}) for kind in sorted(NO_PATTERN_ALONE)),
    ("LORA", {"megatron_config": {"a": 1}, "use_dora": True}),
    ("LORA", {"init_lora_weights": "pissa", "lora_bias": True}),
    ("LORA", {"use_dora": True, "lora_bias": True}),
    ("LORA", {"init_lora_weights": "loftq"}),
    ("ADALORA", {"tinit": 50, "tfinal": 50, "total_step": 100}),
    ("ADAMSS", {"use_asa": True, "final_warmup": 10, "init_warmup": 10}),
    ("BOFT", {"boft_block_num": 4}),
    ("BOFT", {"boft_block_size": 0}),
    ("CARTRIDGE", {"num_frozen_tokens": 5}),
    ("CPT", {"cpt_token_ids": [1, 2, 3]}),
    ("GRALORA", {"r": 9, "gralora_k": 2}),
    ("IA3", {"target_modules": ["q"], "feedforward_modules": ["k"]}),
    ("OFT", {"r": 8}),
    ("OFT", {"oft_block_size": 0}),
    ("PROMPT_TUNING", {"tokenizer_name_or_path": "a", "prompt_tuning_init": "TEXT"}),
    ("PROMPT_TUNING", {"prompt_tuning_init_text": "a", "prompt_tuning_init": "TEXT"}),
    ("MULTITASK_PROMPT_TUNING", {"prompt_tuning_init_text": "a", "prompt_tuning_init": "TEXT"}),
    ("PROMPT_TUNING", {"tokenizer_kwargs": {"a": 1}}),
    ("SHADOW", {"shadow_hidden_size": 8, "shadow_model": "models/small"}),
    ("SUPERTUNING", {"lora_alpha": 8}),
]
TAKEN = [
    ("LORA", {"target_modules": ["q"], "layers_to_transform": [0], "layers_pattern": "layers"}),
    ("LORA", {"init_lora_weights": False, "lora_bias": True}),
    ("LORA", {"use_dora": True, "init_lora_weights": "pissa", "use_rslora": True}),
    ("ADALORA", {"tinit": 20, "tfinal": 50, "total_step": 100}),
    ("BOFT", {"boft_block_num": 4, "boft_block_size": 0}),
    ("OFT", {"r": 8, "oft_block_size": 0}),
    ("PROMPT_TUNING", {**TEXT, "tokenizer_name_or_path": "a", "tokenizer_kwargs": {"a": 1}}),
    ("IA3", {"target_modules": ["q", "k"], "feedforward_modules": ["k"]}),
    ("SHADOW", {"shadow_hidden_size": 8}),
]


def config(peft_type, kwargs, task="CAUSAL_LM", **training_args):
    return {
        "method": "sft",
        "data_conf": {
            "training_data": {"type": "CONCATENATION", "datasets": [{"path": "a.jsonl"}]},
            "validation_data": {"type": "NONE"},
        },
        "training_args": training_args,
        "batchsize_conf": {"total_train_batch_size": 1, "max_per_device_train_batch_size": 1},
        "peft_conf": {
            "peft_type": peft_type,
            "task_type": task,
            "peft_kwargs": {**REQUIRED.get(peft_type, {}), **kwargs},
        },
        "run_conf": {"model": "models/base"},
        "sft_args": {"max_seq_length": 1024},
    }


def findings(peft_type, kwargs, **training_args):
    layer = load_text("a.json", json.dumps(config(peft_type, kwargs, **training_args), indent=1))
    wrong, paths = validate(layer)
    assert not wrong
    return layer, check_rules(Values(layer, 1, {}, paths))


def build(peft_type, kwargs):
    return PEFT_TYPE_TO_CONFIG_MAPPING[peft_type](
        task_type="CAUSAL_LM", **{**REQUIRED.get(peft_type, {}), **kwargs}
    )


def test_every_refusal_is_tried():
    tried = {(kind, finding.message) for kind, kwargs in REFUSED for finding in findings(kind, kwargs)[1]}
    multitask = "MULTITASK_PROMPT_TUNING"  # refused by its model, not by its config
    for refusal in REFUSALS:
        start = refusal.message.split("{", maxsplit=1)[0]
        assert refusal.peft_types == {multitask} or any(
            kind in refusal.peft_types and message.startswith(start) for kind, message in tried
        )


@pytest.mark.parametrize(("peft_type", "kwargs"), REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_silogen_refuses_peft_refuses(peft_type, kwargs):
    layer, found = findings(peft_type, kwargs)
    assert "SG335" in {finding.code for finding in found}
    lines = layer.sources["a.json"].splitlines()
    assert any(next(reversed(kwargs)) in lines[finding.span.line - 1] for finding in found)
    with pytest.raises(ValueError):  # noqa: PT011 - the rows say the same in other words
        build(peft_type, kwargs)


@pytest.mark.parametrize(("peft_type", "kwargs"), TAKEN)
@pytest.mark.filterwarnings("ignore")
def test_what_peft_takes_silogen_takes(peft_type, kwargs):
    assert findings(peft_type, kwargs)[1] == []
    build(peft_type, kwargs)


def tiny_model():
    config_ = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=16
    )
    return transformers.LlamaForCausalLM(config_)


def test_two_kinds_of_lora():
    known = {"kasa_config": {}, "use_dora": True}
    [finding] = findings("LORA", known)[1]
    assert (finding.code, finding.message.split("`")[1]) == ("SG335", "kasa_config")
    with pytest.raises(ValueError, match="variant combination"):
        peft.get_peft_model(tiny_model(), build("LORA", known))


@pytest.mark.filterwarnings("ignore")
def test_loftq_that_peft_drops():
    dropped = {"loftq_config": {"loftq_bits": 4}}
    [finding] = findings("LORA", dropped)[1]
    assert (finding.code, build("LORA", dropped).loftq_config) == ("SG335", {})
    assert findings("LORA", {**dropped, "init_lora_weights": "loftq"})[1] == []


SIZES = {"num_virtual_tokens": 3, "num_transformer_submodules": 2, "num_layers": 4, "token_dim": 8}
SIZES |= {"num_attention_heads": 2}


@pytest.mark.parametrize("key", SIZES)
def test_sizes_that_cpt_forgets(key):
    [finding] = findings("CPT", {key: SIZES[key]})[1]
    assert (finding.code, getattr(build("CPT", {key: SIZES[key]}), key) == SIZES[key]) == ("SG335", False)
    assert (
        findings("CPT", {"num_virtual_tokens": 2, "num_transformer_submodules": 1, "num_layers": None})[1]
        == []
    )


def test_the_task_of_cpt():
    layer = load_text("a.json", json.dumps(config("CPT", {}, task="SEQ_CLS"), indent=1))
    [finding] = check_rules(Values(layer, 1, {}))
    assert (finding.code, "SEQ_CLS" in finding.message) == ("SG335", True)
    with pytest.raises(ValueError, match="only supports task_type"):
        peft.CPTConfig(task_type="SEQ_CLS", **REQUIRED["CPT"])


def test_keys_that_adalora_would_drop():
    layer = load_text("a.json", json.dumps(config("ADALORA", {"eva_config": {"a": 1}}), indent=1))
    [finding] = validate(layer)[0]
    assert (finding.code, finding.message.split("`")[1]) == ("SG207", "eva_config")


def test_the_kinds_of_lora_are_those_of_peft():
    fields = peft.LoraConfig.__dataclass_fields__.values()
    assert {*LORA_VARIANTS} == {field.name for field in fields if field.metadata.get("is_lora_variant")}


@pytest.mark.parametrize("peft_type", ["PREFIX_TUNING", "CARTRIDGE"])
@pytest.mark.filterwarnings("ignore")
def test_a_prefix_does_not_survive_checkpointing(peft_type):
    found = findings(peft_type, {"num_virtual_tokens": 4}, gradient_checkpointing=True)[1]
    assert [finding.code for finding in found] == ["SG350"]
    model = peft.get_peft_model(tiny_model(), build(peft_type, {"num_virtual_tokens": 4}))
    model.gradient_checkpointing_enable()
    ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(RuntimeError):
        model.train()(input_ids=ids, attention_mask=ids, labels=ids)
