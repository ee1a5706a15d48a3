"""A strategy for valid configs, drawn from the validation bundle: methods, unions, optional keys, values."""

from __future__ import annotations

import json
from functools import cache

import jsonschema_rs
from hypothesis import strategies as st
from silogen_compiler.schema import bundle, deref

# Values in order of use: what a failing config is reduced to comes first.
TEXTS = ["a", "b c", "./x/y", "", "null", "1e5", "é: #"]
MODULES = ["q_proj", "v_proj", "down_proj"]
INTEGERS = [1, 2, 3, 4, 8, 16, 64, 100, 2048, 0, -1, 5, 7, 99999]
NUMBERS = [1, 0.5, 0.1, 2, 0, 0.001, 0.25, 1.0, 2e-5, 3.7, 100, 1e-12, -1, -0.5]
OBJECTS = [{"a": 1}, {}, {"b": {"c": [1, "x", None]}, "d": 0.5}]

# The values of keys whose schema leaves open what a library or a rule reads closely.
OPEN = {
    "mlflow_server_uri": ["http://localhost:5000", "file:///x", "https://u:p@host/x"],
    "device_map": [None, "auto", "cpu", {"": 0}],
    "max_memory": [None, {"cpu": "4GB"}],
    "proxies": [None, {"http": "localhost:1"}],
    "attn_implementation": [None, "sdpa", "eager", "flash_attention_2"],
    "token": [None, "${env:HF_TOKEN}", "hf_x"],
    "hub_token": [None, "${env:HF_TOKEN}", "hf_x"],
    "push_to_hub_token": [None, "${env:HF_TOKEN}"],
    "target_modules": [None, MODULES, "all-linear", ["q_proj"], ".*_proj", ["k_proj", "o_proj", "up_proj"]],
    "exclude_modules": [None, ["down_proj"], ".*mlp.*"],
    "modules_to_save": [None, ["lm_head"], []],
    "feedforward_modules": [None, ["down_proj"], []],
    "layers_pattern": [None, "layers", ["layers"]],
    "layers_to_transform": [None, 0, [0, 1]],
    "megatron_config": [None],
    "report_to": ["none", None, "mlflow", ["tensorboard"], [], ["none"], "all", ["mlflow", "wandb"]],
    "accelerator_config": [None, {"split_batches": True}, {}],
    "fsdp": [None, False, True, "", "full_shard auto_wrap", ["full_shard", "offload"]],
    "fsdp_config": [None, {"min_num_params": 100}, {}],
    "deepspeed": [None, None, {"zero_optimization": {"stage": 2}}, {"train_batch_size": 8}],
    "lr_scheduler_kwargs": [None, {"num_cycles": 2}, '{"num_cycles": 2}'],
    "gradient_checkpointing_kwargs": [None, {"use_reentrant": False}, '{"use_reentrant": true}'],
    "activation_checkpointing_kwargs": [None, {"use_reentrant": False}, '{"use_reentrant": true}'],
    "optim_args": [None, "rank=4, scale=0.5"],
    "debug": [
        "",
        "underflow_overflow",
        [],
        ["underflow_overflow", "tpu_metrics_debug"],
        " tpu_metrics_debug ",
    ],
    "pad_to_multiple_of": ["auto", None, 8],
    "init_lora_weights": [True, False, "gaussian", "pissa", "pissa_niter_4", "olora", "orthogonal"],
    "adapters": [{"0": "./x"}, {"0": "./x", "1": "./y"}],
    "loftq_config": [{}, {"loftq_bits": 4}],
    "eva_config": [None, {"rho": 1.5}],
    "corda_config": [None],
    "arrow_config": [None, {"top_k": 2}],
    "use_bdlora": [None, {"nblocks": 2}],
    "total_train_batch_size": [8, 16, 32, 64, 1, 96, 800, 1000, 37, 2147483647],
    "max_per_device_train_batch_size": [1, 2, 4, 8, 16, 1000000],
}

# How likely an optional key is written, in tenths; the others of its section are as one in three or rarer.
OFTEN = {
    "method": 6,
    "quant_conf": 5,
    "peft_kwargs": 9,
    "load_in_4bit": 7,
    # What older targets spell in another way.
    "fsdp": 1,
    "loss_type": 1,
    "rpo_alpha": 1,
    "f_alpha_divergence_coef": 1,
    "train_sampling_strategy": 1,
    "warmup_steps": 1,
}
# Keys for one thing, which are written together more often than by chance.
RELATED = {
    "warmup_ratio": "warmup_steps",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "adafactor": "optim",
    "group_by_length": "train_sampling_strategy",
    "fsdp_min_num_params": "fsdp_config",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    "rpo_alpha": "loss_type",
    "loss_weights": "loss_type",
    "label_smoothing": "loss_type",
    "torch_dtype": "dtype",
}
# At most so many optional keys of a section.
MOST_KEYS = 8


def configs():
    """Return the strategy: one config a draw, valid by the schema; rules may refuse it."""
    return _config()


@st.composite
def _config(draw):
    config = _value(draw, "", bundle())
    _agree(config)
    return config


def _agree(config):
    """Mend, most of the time, what rules refuse so often that little would be left."""
    data, args = config["data_conf"], config["training_args"]
    if args.get("eval_strategy", "no") != "no" and data["validation_data"]["type"] == "NONE":
        data["validation_data"] = {"type": "AUTO_SPLIT"}
    if args.get("bf16") and args.get("fp16"):
        del args["fp16"]
    launch = config.get("launch") or {}
    if {"deepspeed", "fsdp", "fsdp_config"} & args.keys():
        launch.pop("strategy", None)
    for key in ("nodes", "zero_stage", "fsdp_version", "cpu_offload"):
        if {"zero_stage": "deepspeed", "fsdp_version": "fsdp"}.get(key) != launch.get("strategy", ""):
            launch.pop(key, None)
    quantization = config.get("quant_conf", {})
    if quantization.get("load_in_4bit") and quantization.get("load_in_8bit"):
        del quantization["load_in_8bit"]
    for key in ("logging_steps", "save_steps", "eval_steps", "warmup_steps"):
        if (args.get(key) or 0) > 1:
            args[key] = int(args[key])
    losses, weights = args.get("loss_type", ""), args.get("loss_weights") or []
    if len(weights) != (1 if isinstance(losses, str) else len(losses)):
        args.pop("loss_weights", None)


def _value(draw, key, node):
    """Draw a value of the schema `node`, which stands at `key`."""
    node = deref(node)
    if "then" in node and "type" not in node:
        return None if draw(_up_to(1)) == 0 else _value(draw, key, node["then"])
    branches = [branch["then"] for branch in node.get("allOf", [])]
    if branches:
        return _value(draw, key, _chosen(draw, branches))
    if "properties" in node:
        return _object(draw, node)
    items = deref(node.get("items", {}))
    if "properties" in items:
        return [_object(draw, items) for _ in range(1 + draw(_up_to(1)))]
    return draw(_leaves(key, node))


def _object(draw, node):
    properties, required = node["properties"], node.get("required", [])
    keys = [key for key in properties if key not in required]
    often = [key for key in keys if key in OFTEN and draw(_up_to(9)) < OFTEN[key]]
    count = draw(_up_to(min(MOST_KEYS, len(keys))))
    some = [_chosen(draw, keys) for _ in range(count)]
    some = [key for key in some if not properties[key].get("deprecated") or draw(_up_to(2)) == 2]
    some += [RELATED[key] for key in some if RELATED.get(key) in keys and draw(_up_to(1))]
    return {key: _value(draw, key, properties[key]) for key in dict.fromkeys([*required, *often, *some])}


def _chosen(draw, options):
    return options[draw(_up_to(len(options) - 1))]


@cache
def _up_to(most):
    return st.integers(0, most)


def _leaves(key, node):
    """Return the strategy for a value without sections of its own, made once for each place."""
    if (key, id(node)) not in _made:
        _made[key, id(node)] = _leaf(key, node)
    return _made[key, id(node)]


_made = {}  # by key and by identity of the schema, which the bundle keeps alive


def _leaf(key, node):
    pool = st.sampled_from(_pool(key, node))
    if key in OPEN or "enum" in node or "number" not in node.get("type", ()):
        return pool
    low, high = node.get("minimum", node.get("exclusiveMinimum", -1e9)), node.get("maximum", 1e9)
    below, above = "exclusiveMinimum" in node, node.get("exclusiveMaximum")
    floats = st.floats(low, above or high, exclude_min=below, exclude_max=above is not None)
    return pool | floats.filter(jsonschema_rs.validator_for(node).is_valid)


def _pool(key, node):
    """Return the candidates that the schema allows, once each, the default first."""
    valid = jsonschema_rs.validator_for(node).is_valid
    own = [node[name] for name in ("default", "const") if name in node]
    candidates = OPEN.get(key) or [*own, *_candidates(node)]
    return list({json.dumps(value): value for value in candidates if valid(value)}.values())


def _candidates(node):
    yield from node.get("enum", [])
    for branch in node.get("anyOf", []):
        yield from _candidates(branch)
    for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
        yield from (node[bound] + step for step in (0, 1, -1, 0.5) if bound in node)
    yield from (None, True, False, *INTEGERS, *NUMBERS, *TEXTS, *OBJECTS, [])
    if "items" in node:
        inner = _pool("", node["items"])
        yield from ([item] for item in inner)
        yield inner[:2]
        yield [*inner[1:], inner[0]]
    if isinstance(node.get("additionalProperties"), dict):
        yield from ({"q_proj": item} for item in _pool("", node["additionalProperties"]))
