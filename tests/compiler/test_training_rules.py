"""The rules on training arguments: where each speaks, where it keeps silent, and what transformers does."""

from __future__ import annotations

import json

import pytest
import torch
from silogen_compiler.load import load_text
from silogen_compiler.rules.general import check_rules
from silogen_compiler.rules.training import ATTENTION_NAMES, SCHEDULER_NEEDS
from silogen_compiler.schema import find
from silogen_compiler.validate import validate
from silogen_compiler.values import Values
from transformers import AttentionInterface, get_scheduler
from transformers.integrations.hub_kernels import is_kernel


def findings(args=None, *, processes=1, model_args=None, peft=None, total=16, **sections):
    config = {
        "method": "sft",
        "data_conf": {
            "training_data": {"type": "CONCATENATION", "datasets": [{"path": "a.jsonl"}]},
            "validation_data": {"type": "AUTO_SPLIT", "ratio": 0.1},
        },
        "training_args": {"eval_on_start": True, **(args or {})},
        "batchsize_conf": {"total_train_batch_size": total, "max_per_device_train_batch_size": 4},
        "peft_conf": peft or {"peft_type": "NO_PEFT"},
        "run_conf": {
            "model": "models/base",
            "model_args": model_args or {},
            **sections.pop("run_conf", {}),
        },
        "sft_args": {"max_seq_length": 1024},
        **sections,
    }
    layer = load_text("a.json", json.dumps(config, indent=1))
    wrong, paths = validate(layer)
    assert not wrong
    return check_rules(Values(layer, processes, {}, paths))


def codes(*args, **kwargs):
    return [finding.code for finding in findings(*args, **kwargs)]


def test_defaults():
    assert codes() == []


# Attention


@pytest.mark.parametrize(
    "name",
    [
        *ATTENTION_NAMES,
        *("paged|eager", "paged|sdpa", None),
        *("kernels-community/flash-attn2", "owner/name@v1:function", "owner/name:function"),
    ],
)
def test_attention_that_transformers_knows(name):
    assert codes(model_args={"attn_implementation": name}) == []
    bare = (name or "sdpa").removeprefix("paged|")
    assert bare == "eager" or is_kernel(bare) or bare in AttentionInterface._global_mapping  # noqa: SLF001


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("flash_attention", "flash_attention_2"),
        ("flash_attn_2", "flash_attention_2"),
        ("flash_attention2", "flash_attention_2"),
        ("spda", "sdpa"),
        ("SDPA", "sdpa"),
        ("flex", "flex_attention"),
        ("paged|egar", "eager"),
        ("a/b/c", ""),
        ("", ""),
    ],
)
def test_attention_that_transformers_does_not_know(name, nearest):
    [finding] = findings(model_args={"attn_implementation": name})
    assert finding.code == "SG331"
    assert nearest in finding.label
    assert not is_kernel(name)


# Batch sizes


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("train_micro_batch_size_per_gpu", 4, 1),
        ("train_batch_size", 16, 8),
        ("gradient_accumulation_steps", 2, 4),
    ],
)
def test_deepspeed_batch_sizes(key, right, wrong):
    for value in (right, "auto", float(right)):
        assert codes({"deepspeed": {key: value}}, processes=2) == []
    [finding] = findings({"deepspeed": {key: wrong}}, processes=2)
    assert (finding.code, f"replaced by {right}" in finding.message) == ("SG332", True)


def test_deepspeed_beside_a_total_that_does_not_divide():
    assert codes({"deepspeed": {"train_batch_size": 8}}, processes=3) == ["SG301"]
    assert codes({"deepspeed": {"train_batch_size": 8}}, processes=32) == ["SG301"]
    assert codes({"deepspeed": "deepspeed.json"}, processes=2) == []


# Learning rates

PROMPTS = {"peft_type": "PROMPT_TUNING", "peft_kwargs": {"num_virtual_tokens": 4}}


@pytest.mark.parametrize(
    ("rate", "sections", "found"),
    [
        (0, {}, False),
        (1e-2, {}, False),
        (2e-2, {}, True),
        (1e-7, {}, False),
        (5e-8, {}, True),
        (0.3, {"peft": PROMPTS}, False),
        (3, {"peft": PROMPTS}, True),
        (2e-3, {"overrides": {"lr_batch_size_scaling": "sqrt"}}, False),
        (2e-3, {"overrides": {"lr_batch_size_scaling": "linear"}}, True),
        (2e-2, {"overrides": {"lr_multiplier": 0.1}}, False),
    ],
)
def test_learning_rates(rate, sections, found):
    assert codes({"learning_rate": rate}, **sections) == ["SG337"] * found


def test_learning_rates_of_sgd():
    assert codes({"learning_rate": 0.1, "optim": "sgd"}) == []


# Schedulers


def build_scheduler(name, kwargs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    return get_scheduler(name, optimizer, 0, 1000, kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        *((name, {key: value}) for name, needs in SCHEDULER_NEEDS.items() for key, value in needs.items()),
        ("cosine", None),
    ],
)
def test_schedulers_with_what_they_need(name, kwargs):
    assert codes({"lr_scheduler_type": name, "lr_scheduler_kwargs": kwargs}) == []
    assert codes({"lr_scheduler_type": name, "lr_scheduler_kwargs": json.dumps(kwargs)}) == []
    assert build_scheduler(name, kwargs)


@pytest.mark.parametrize("name", SCHEDULER_NEEDS)
@pytest.mark.parametrize("kwargs", [None, {}, {"min_lr": 1e-6, "min_lr_rate": 0.1}])
def test_schedulers_without_what_they_need(name, kwargs):
    assert codes({"lr_scheduler_type": name, "lr_scheduler_kwargs": kwargs}) == ["SG338"]
    with pytest.raises((TypeError, ValueError)):
        build_scheduler(name, kwargs)


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "greedy"])
def test_schedulers_that_follow_the_evaluation(name):
    assert codes({"lr_scheduler_type": name}) == ["SG338"]
    assert codes({"lr_scheduler_type": name, "eval_strategy": "epoch"}) == []


OPTIMIZERS = find(("training_args", "optim"), {"method": "sft"})["enum"]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name.startswith("paged_")])
def test_optimizers_that_are_not_paged(name):
    [finding] = findings({"optim": name, "use_cpu": True})
    assert finding.code == "SG333"
    assert finding.label.split("`")[1] in OPTIMIZERS


# One setting beside another

SERVER = {"mlflow_server_uri": "http://localhost:5000", "experiment_name": "a"}


@pytest.mark.parametrize(
    ("args", "kwargs", "code"),
    [
        ({"gradient_checkpointing": True}, {"model_args": {"use_cache": True}}, "SG330"),
        ({"activation_checkpointing": True, "use_cache": True}, {}, "SG330"),
        ({"optim": "paged_lion_8bit", "use_cpu": True}, {}, "SG333"),
        ({"optim": "apollo_adamw_layerwise"}, {}, "SG334"),
        ({"save_only_model": True}, {"run_conf": {"resume_from_checkpoint": "auto"}}, "SG336"),
        ({"dataloader_persistent_workers": True}, {}, "SG339"),
        ({"dataloader_prefetch_factor": 2}, {}, "SG339"),
        ({"ddp_backend": "nccl"}, {}, "SG346"),
        ({"metric_for_best_model": "loss"}, {}, "SG347"),
        ({"greater_is_better": False}, {}, "SG347"),
        ({"auto_find_batch_size": True}, {}, "SG348"),
        ({"max_steps": 10, "warmup_steps": 10}, {}, "SG349"),
        ({"torch_compile": False, "torch_compile_mode": "default"}, {}, "SG351"),
        ({"logging_steps": 2.5}, {}, "SG352"),
        ({"save_steps": 500.5}, {}, "SG352"),
        ({"eval_steps": 1.01}, {}, "SG352"),
        ({"warmup_steps": 3.7}, {}, "SG352"),
        ({"full_determinism": False}, {"run_conf": {"determinism": "full"}}, "SG355"),
        ({"run_name": "a"}, {"tracking": {**SERVER, "run_name": "b"}}, "SG356"),
        ({"gradient_checkpointing": True, "activation_checkpointing": False}, {}, "SG404"),
        ({"gradient_checkpointing": False, "activation_checkpointing": True}, {}, "SG404"),
        (
            {"gradient_checkpointing_kwargs": {"a": 1}, "activation_checkpointing_kwargs": '{"a": 2}'},
            {},
            "SG404",
        ),
    ],
)
def test_settings_that_do_not_go_together(args, kwargs, code):
    assert codes(args, **kwargs) == [code]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ({"gradient_checkpointing": True, "use_cache": False}, {"model_args": {"use_cache": False}}),
        ({"activation_checkpointing": False, "use_cache": True}, {}),
        ({"gradient_checkpointing": True, "activation_checkpointing": True}, {}),
        ({"gradient_checkpointing": None, "activation_checkpointing": True}, {}),
        ({"gradient_checkpointing": True, "activation_checkpointing": None}, {}),
        ({"gradient_checkpointing_kwargs": {"a": 1}, "activation_checkpointing_kwargs": '{"a": 1}'}, {}),
        ({"logging_steps": 2.0, "save_steps": 0.5, "eval_steps": 0, "warmup_steps": 1e3}, {}),
        ({"full_determinism": True}, {"run_conf": {"determinism": "full"}}),
        ({"full_determinism": False}, {"run_conf": {"determinism": "half"}}),
        ({"run_name": "a"}, {"tracking": {**SERVER, "run_name": "a"}}),
        ({"run_name": "a"}, {"tracking": SERVER}),
        ({"run_name": None}, {"tracking": {**SERVER, "run_name": "a"}}),
        ({"use_cache": True}, {"model_args": {"use_cache": True}}),
        ({"optim": "paged_adamw_8bit"}, {}),
        ({"optim": "adamw_8bit", "use_cpu": True}, {}),
        ({"optim": "galore_adamw", "optim_target_modules": "all-linear"}, {}),
        ({"save_only_model": True}, {}),
        ({"dataloader_num_workers": 2, "dataloader_prefetch_factor": 2}, {}),
        ({"ddp_backend": "gloo"}, {"processes": 2}),
        ({"metric_for_best_model": "loss", "save_total_limit": 2}, {}),
        ({"metric_for_best_model": "loss", "save_strategy": "best", "eval_strategy": "epoch"}, {}),
        ({"metric_for_best_model": "loss", "lr_scheduler_type": "greedy", "eval_strategy": "epoch"}, {}),
        ({"max_steps": 10, "warmup_steps": 9}, {}),
        ({"max_steps": 10, "warmup_steps": 10, "lr_scheduler_type": "constant"}, {}),
        ({"warmup_steps": 100}, {}),
        ({"torch_compile_backend": "inductor"}, {}),
    ],
)
def test_settings_that_do(args, kwargs):
    assert codes(args, **kwargs) == []
