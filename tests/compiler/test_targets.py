"""What holds for every config and every target: nothing foreign is passed, and nothing written is lost."""

from __future__ import annotations

import functools
import json
import math
import os
import warnings
from typing import Any, NamedTuple

import jsonschema_rs
import peft
import pytest
import torch
import transformers
import trl
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from silogen_compiler.emit import digest, emit_json, emit_yaml
from silogen_compiler.load import load_text
from silogen_compiler.lower.landings import landing
from silogen_compiler.pipeline import compile_text
from silogen_compiler.resolve import largest_divisor
from silogen_compiler.schema import bundle, find, read_json
from silogen_compiler.targets import DEFAULT_TARGET, load_target, packages_of_targets
from strategies import configs
from test_real_classes import CONVERTED

TARGETS = list(packages_of_targets())
MISSING = "nothing is here"
PROCESSES = st.sampled_from([1, 1, 1, 2, 4])


MORE = int(os.environ.get("SILOGEN_FUZZ", "2000")) / 2000  # `make fuzz` tries 25 times as many


def examples(number):
    return settings(max_examples=int(number * MORE), deadline=None, suppress_health_check=list(HealthCheck))


class Case(NamedTuple):
    """A config with what it compiled to; `data` and `marks` are as the person wrote them."""

    data: dict[str, Any]
    marks: dict[Any, Any]
    resolved: dict[str, Any]
    diagnostics: list[Any]
    world_size: int

    @property
    def args(self):
        return self.resolved["trainer"]["args"]

    def written(self, path, default=None):
        """Return what the person wrote at a dotted path."""
        return _get(self.data, path.split("."), default)


def compile_config(config, target=DEFAULT_TARGET, world_size=1):
    text = json.dumps(config, indent=0)
    return compile_text("run.json", text, environment={}, world_size=world_size, target=target)


def case(config, target, world_size):
    """Return the compiled config, and skip the draw where it has errors."""
    compiled = compile_config(config, target, world_size)
    assume(compiled.resolved is not None)
    layer = load_text("run.json", compiled.sources["run.json"])
    return Case(layer.data, layer.marks, compiled.resolved, compiled.diagnostics, world_size)


def _get(node, path, default=None):
    for key in path:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return default
    return node


def same(one, other):
    """Tell whether two values are the same, and of one type: 1 is not true, but 1.0 is 1."""
    return json.dumps(_plain(one), sort_keys=True) == json.dumps(_plain(other), sort_keys=True)


def _plain(value):
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Only what the target takes, and all of it.


@pytest.mark.parametrize("target", TARGETS)
@given(configs(), PROCESSES)
@examples(100)
def test_only_arguments_of_the_target_are_passed_and_all_of_the_trainers(target, config, world_size):
    resolved = case(config, target, world_size).resolved
    classes = load_target(target).classes
    assert resolved["model"]["from_pretrained"].keys() <= classes["AutoModelForCausalLM"].keys()
    assert resolved["tokenizer"]["from_pretrained"].keys() <= classes["AutoTokenizer"].keys()
    for section in (resolved["peft"], resolved["quantization"]):
        if section and "class" in section:
            assert section["kwargs"].keys() <= classes[section["class"]].keys()
    trainer = resolved["trainer"]
    everything = classes[trainer["args_class"]].keys() - {"resume_from_checkpoint"}
    assert trainer["args"].keys() - {"resume_from_checkpoint"} == everything
    assert RESOLVED.is_valid(resolved), next(RESOLVED.iter_errors(resolved))


RESOLVED = jsonschema_rs.validator_for(read_json("resolved.schema.json"))


# Nothing is dropped silently. A value lands as it is, where landing() says, or as this table says.


def lands_at(*path):
    return lambda c, value: same(_get(c.resolved, path, MISSING), value)


def lands_as(convert, *path):
    return lambda c, value: same(_get(c.resolved, path, MISSING), convert(value))


def instead_of(empty, other, *path):
    """Return a check for a value that is kept, unless it is the empty one, which means the other."""
    return lambda c, value: same(_get(c.resolved, path, MISSING), other if value == empty else value)


def absent(*path):
    return lambda c, value: value is None and _get(c.resolved, path, MISSING) is MISSING


def lands_if_on(*path):
    return lambda c, value: not value or same(_get(c.args, path, MISSING), value)


def _joined(c, value):
    """Older keys of `training_args` join the mapping."""
    held = c.args["fsdp_config"]
    return isinstance(value, dict) and all(same(held.get(key), value[key]) for key in value)


def either(*checks):
    return lambda c, value: any(check(c, value) for check in checks)


def _total(c, value):
    args = c.args
    return args["per_device_train_batch_size"] * args["gradient_accumulation_steps"] * c.world_size == value


def _per_device(c, value):
    share = c.written("batchsize_conf.total_train_batch_size") // c.world_size
    return c.args["per_device_train_batch_size"] == largest_divisor(int(share), int(value))


def _eval_batch(c, value):
    return c.args["per_device_eval_batch_size"] == (value or c.args["per_device_train_batch_size"])


def _learning_rate(c, _):
    default = 1e-6 if c.resolved["method"] == "dpo" else 5e-5
    total = c.written("batchsize_conf.total_train_batch_size")
    scaling = c.written("overrides.lr_batch_size_scaling", "none")
    factor = {"none": 1, "sqrt": math.sqrt(total), "linear": total}[scaling]
    written = c.written("training_args.learning_rate", default)
    rate = written * c.written("overrides.lr_multiplier", 1) * factor
    return math.isclose(c.args["learning_rate"], rate, rel_tol=1e-12)


def _adapter(c, value):
    if value == "NO_PEFT":
        return c.resolved["peft"] is None
    if value == "PRETRAINED_PEFT":
        return "pretrained" in c.resolved["peft"]
    return c.resolved["peft"]["class"] == peft.PEFT_TYPE_TO_CONFIG_MAPPING[value].__name__


def _quantizes(c):
    return bool(c.written("quant_conf.load_in_4bit") or c.written("quant_conf.load_in_8bit"))


def _dtype(c, value):
    kept = value or c.written("run_conf.model_args.torch_dtype", "auto")
    return lands_at("model", "from_pretrained", "dtype")(c, kept)


def _device_map(c, _):
    alone = c.world_size == 1 and not c.args["deepspeed"] and not c.args["fsdp"]
    return lands_at("model", "from_pretrained", "device_map")(c, "auto" if alone else None)


def _checkpointing(suffix):
    """Return a check of the two names for one switch: the newer decides where it is written."""
    names = [f"{name}_checkpointing{suffix}" for name in ("activation", "gradient")]

    def check(c, _):
        newer, older = (c.written(f"training_args.{name}") for name in names)
        value = older if newer is None else newer
        held = [c.args[name] for name in names if name in c.args]
        return all(same(at, value) if suffix else bool(at) is bool(value) for at in held)

    return check


def _report_to(c, value):
    names = [value] if isinstance(value, str) else value or []
    held = c.args["report_to"]
    held = {held} if isinstance(held, str) else set(held)
    joined = {"mlflow"} if c.written("tracking") is not None and "all" not in names else set()
    return held - {"none"} == ({*names} | joined) - {"none"}


def _storage(c, value):
    return value is None and lands_at("quantization", "kwargs", "bnb_4bit_quant_storage")(c, _computed(c))


def _computed(c):
    mixed = [kind for kind in ("bf16", "fp16") if c.written(f"training_args.{kind}")]
    return {"bf16": "bfloat16", "fp16": "float16"}[mixed[0]] if mixed else "float32"


def _without_credentials(uri):
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _warmup(c, value):
    """A share below 1, or steps; until transformers 4 two arguments, the one for steps a whole number.

    A ratio of 1 stays what it is, since 1 means one step today.
    """
    if "warmup_ratio" not in c.args:
        return same(c.args["warmup_steps"], value)
    share, steps = (value, 0) if 0 < value < 1 else (0.0, int(value))
    if not 0 < value < 1 and c.data["training_args"].get("warmup_ratio") == 1:
        share = 1
    return same([c.args["warmup_ratio"], c.args["warmup_steps"]], [share, steps])


def _warmup_ratio(c, value):
    return c.args["warmup_ratio"] == value if value == 1 else _warmup(c, value)


def _fsdp(c, value):
    """Until transformers 4, text: the names of its modes."""
    as_text = {True: "full_shard", False: ""}[value] if isinstance(value, bool) else value
    return same(c.args["fsdp"], as_text if "fsdp_min_num_params" in c.args else value)


def _sampling(c, value):
    """Until transformers 4, a switch."""
    if "group_by_length" in c.args:
        return c.args["group_by_length"] is (value == "group_by_length")
    return c.args["train_sampling_strategy"] == value


def _loss(c):
    """Return the losses, their weights and the smoothing, as the target takes them."""
    written = functools.partial(c.written, default=None)
    names, alpha = written("training_args.loss_type") or "sigmoid", written("training_args.rpo_alpha")
    weights, smoothing = written("training_args.loss_weights"), written("training_args.label_smoothing") or 0
    if "rpo_alpha" in c.args:
        return names, weights, smoothing, alpha
    names = [names] if isinstance(names, str) else names
    others = {"exo_pair", "robust", "aot", "aot_pair", "aot_unpaired"} & {*names}
    if smoothing and "sigmoid" in names and not others:
        names = ["robust" if name == "sigmoid" else name for name in names]
        smoothing = -smoothing / (1 - 2 * smoothing)
    if not smoothing and others == {"exo_pair"}:
        smoothing = 1e-3  # with 0, the loss would be the logarithm of 0
    if alpha:
        weights, names = [*(weights or [1.0] * len(names)), alpha], [*names, "sft"]
    return [{"aot_pair": "aot_unpaired"}.get(name, name) for name in names], weights, smoothing, ...


def _loss_argument(index, key):
    return lambda c, _: _loss(c)[index] is ... or c.args.get(key) == _loss(c)[index]


def _divergence(c, value):
    """Until TRL 0.24, alpha counted from the other end."""
    return c.args["f_alpha_divergence_coef"] == (value if "rpo_alpha" in c.args else 1 - value)


def _launch(c, section):
    """The section lands whole, with numbers of machines and processes that make the world size."""
    launch = c.resolved["launch"]
    if section is None:
        return launch.keys() == {"world_size", "strategy"}
    numbers = launch["nodes"] * launch["processes_per_node"] == c.world_size
    strategy = section.get("strategy") in (
        None,
        launch["strategy"],
        {"single": "ddp"}.get(launch["strategy"]),
    )
    others = section.keys() - {"nodes", "processes_per_node", "strategy"}
    if "cpu_offload" not in launch:  # of a strategy that can't; another value is an error
        others -= {"cpu_offload"} if section.get("cpu_offload") == "none" else set()
    return numbers and strategy and all(launch[key] == section[key] for key in others)


def _no_effect(right):
    """Return a check for a value that no library reads: only the right one may go without a word."""
    return lambda _, value: same(value, right)


MODEL = ("model", "from_pretrained")
ARGS = ("trainer", "args")
TRANSFORMED = {
    # These choose, or take part in a sum, and stand in no argument of their own.
    "apiVersion": _no_effect("silogen/v1"),
    "launch": _launch,
    "extends": lambda _, files: not files,  # those of a config without a file are not there
    "data_conf.validation_data.data_type": lands_at("data", "data_type"),  # one type for both
    "batchsize_conf.total_train_batch_size": _total,
    "batchsize_conf.max_per_device_train_batch_size": _per_device,
    "batchsize_conf.per_device_eval_batch_size": _eval_batch,
    "overrides.lr_multiplier": _learning_rate,
    "overrides.lr_batch_size_scaling": _learning_rate,
    "training_args.learning_rate": _learning_rate,
    "peft_conf.peft_type": _adapter,
    "quant_conf.quantization_type": lambda c, _: bool(c.resolved["quantization"]) is _quantizes(c),
    # Null means a value that silogen chooses.
    "run_conf.model_args.torch_dtype": lands_at(*MODEL, "dtype"),
    "run_conf.model_args.dtype": _dtype,
    "run_conf.model_args.device_map": either(
        lambda c, value: value is None and _device_map(c, value), lands_at(*MODEL, "device_map")
    ),
    "run_conf.model_args.use_safetensors": instead_of(None, True, *MODEL, "use_safetensors"),  # noqa: FBT003 - for null
    "run_conf.model_args.subfolder": instead_of(None, "", *MODEL, "subfolder"),  # joined to a path
    "run_conf.model_args.offload_buffers": lands_as(bool, *MODEL, "offload_buffers"),
    "run_conf.tokenizer": lambda c, value: same(
        c.resolved["tokenizer"]["from_pretrained"]["pretrained_model_name_or_path"],
        value or c.written("run_conf.model", "/local_resources/basemodel"),
    ),
    "training_args.output_dir": instead_of(None, "./checkpoints", *ARGS, "output_dir"),
    "quant_conf.bnb_4bit_quant_storage": either(
        lands_at("quantization", "kwargs", "bnb_4bit_quant_storage"), _storage
    ),
    # transformers reads these as set when they are there at all.
    **{
        f"run_conf.model_args.{key}": either(absent(*MODEL, key), lands_at(*MODEL, key))
        for key in (
            "adapter_kwargs",
            "experts_implementation",
            "gguf_file",
            "key_mapping",
            "tp_plan",
            "tp_size",
            "use_kernels",
        )
    },
    # An environment variable since transformers 5; null leaves TensorBoard its own folder.
    "training_args.logging_dir": either(
        lands_at("trainer", "environment", "TENSORBOARD_LOGGING_DIR"),
        lands_at(*ARGS, "logging_dir"),
        lambda c, value: value is None and not c.resolved["trainer"]["environment"],
    ),
    # Read by no library: only the value that is right all the same may go without a word.
    "run_conf.model_args.low_cpu_mem_usage": _no_effect(right=False),
    "run_conf.model_args.offload_state_dict": _no_effect(right=None),
    "run_conf.model_args.resume_download": _no_effect(right=False),
    "run_conf.use_fast_tokenizer": _no_effect(right=True),
    "training_args.resume_from_checkpoint": _no_effect(right=None),
    # Two names, or two places, for one thing.
    "training_args.activation_checkpointing": _checkpointing(""),
    "training_args.gradient_checkpointing": _checkpointing(""),
    "training_args.activation_checkpointing_kwargs": _checkpointing("_kwargs"),
    "training_args.gradient_checkpointing_kwargs": _checkpointing("_kwargs"),
    "training_args.report_to": _report_to,
    "training_args.full_determinism": either(
        lands_at(*ARGS, "full_determinism"), lambda c, _: c.written("run_conf.determinism") == "full"
    ),
    # Another form of the same.
    "sft_args.train_on_completions_only": lands_as({True: "assistant", False: "all"}.get, "data", "loss_on"),
    "tracking.mlflow_server_uri": lands_as(_without_credentials, "tracking", "mlflow_server_uri"),
    "training_args.warmup_steps": _warmup,
    "training_args.fsdp": _fsdp,
    "training_args.train_sampling_strategy": _sampling,
    "training_args.loss_type": _loss_argument(0, "loss_type"),
    "training_args.loss_weights": _loss_argument(1, "loss_weights"),
    "training_args.label_smoothing": _loss_argument(2, "label_smoothing"),
    "training_args.rpo_alpha": lambda c, _: all(
        _loss_argument(index, key)(c, _) for index, key in enumerate(("loss_type", "loss_weights"))
    ),
    "training_args.f_alpha_divergence_coef": _divergence,
    # Keys of older versions, under today's names; what is off asks for nothing.
    "training_args.evaluation_strategy": lands_at(*ARGS, "eval_strategy"),
    "training_args.no_cuda": lands_at(*ARGS, "use_cpu"),
    "training_args.torchdynamo": lands_at(*ARGS, "torch_compile_backend"),
    "training_args.push_to_hub_model_id": lands_at(*ARGS, "hub_model_id"),
    "training_args.push_to_hub_token": lands_at(*ARGS, "hub_token"),
    "training_args.warmup_ratio": _warmup_ratio,
    "training_args.group_by_length": lambda c, on: not on or _sampling(c, "group_by_length"),
    "training_args.adafactor": lambda c, on: not on or c.args["optim"] == "adafactor",
    "training_args.include_inputs_for_metrics": lambda c, on: (
        not on or c.args["include_for_metrics"] == ["inputs"]
    ),
    "training_args.fsdp_min_num_params": lands_if_on("fsdp_config", "min_num_params"),
    "training_args.fsdp_transformer_layer_cls_to_wrap": lands_if_on(
        "fsdp_config", "transformer_layer_cls_to_wrap"
    ),
    "training_args.fsdp_config": either(lands_at(*ARGS, "fsdp_config"), _joined),
}

# The findings that say that a value does not land, or not as it is written.
NAMING = {"SG305", "SG313", "SG314", "SG332", "SG356", "SG402", "SG403", "SG404", "SG501", "SG502"}


def is_kept(c, path):
    """Tell whether the value at `path` landed as it is, in the form of the table, or is named."""
    names = [key for key in path if isinstance(key, str)]
    for length in range(len(names), 0, -1):
        check = TRANSFORMED.get(".".join(names[:length]))
        if check:
            return check(c, _get(c.data, names[:length])) or is_named(c, path)
    return has_landed(c, path) or is_named(c, path)


def _schema(c, path):
    quantization = {"quantization_type": "bits-and-bytes", **c.data.get("quant_conf", {})}
    return find(path, {"method": "sft", **c.data, "quant_conf": quantization})


def has_landed(c, path):
    place = landing(path)
    assert place is not None, path
    value, held = _get(c.data, path), _get(c.resolved, place, MISSING)
    if held is MISSING:
        return same(_schema(c, path).get("default", MISSING), value)  # an older target does so anyway
    return same(held, value)


def is_named(c, path):
    """Tell whether a finding that may drop a value names this one: at its place, by its key."""
    for length in range(len(path), 1, -1):
        mark = c.marks.get(path[:length])
        for found in c.diagnostics:
            if found.code in NAMING and mark and found.span in (mark.key, mark.value):
                return f"{path[length - 1]}`" in found.message
    return path[0] == "quant_conf" and any(found.code == "SG305" for found in c.diagnostics)


def leaves(c):
    """Return the paths of all values that hold no others; a section without keys says nothing."""
    return [path for path in c.marks if _is_leaf(_get(c.data, path), c, path)]


def _is_leaf(value, c, path):
    return not isinstance(value, dict | list) or not (value or "properties" in _schema(c, path))


@pytest.mark.parametrize("target", TARGETS)
@given(configs(), PROCESSES)
@examples(150)
def test_what_a_person_wrote_lands_or_is_named(target, config, world_size):
    c = case(config, target, world_size)
    lost = {".".join(map(str, path)): _get(c.data, path) for path in leaves(c) if not is_kept(c, path)}
    assert not lost, [d[:2] for d in c.diagnostics]


# The same bytes, whatever the order.


@pytest.mark.parametrize("target", TARGETS)
@given(configs(), PROCESSES)
@examples(80)
def test_the_same_config_gives_the_same_bytes(target, config, world_size):
    one, other = (compile_config(config, target, world_size) for _ in range(2))
    assert one == other
    if one.resolved:
        assert emit_yaml(one.resolved, one.origins) == emit_yaml(other.resolved, other.origins)
        assert emit_json(one.resolved, one.origins) == emit_json(other.resolved, other.origins)


@given(configs(), PROCESSES, st.sampled_from(TARGETS), st.randoms(use_true_random=False))
@examples(250)
def test_the_order_of_keys_has_no_meaning(config, world_size, target, chance):
    one = compile_config(config, target, world_size)
    other = compile_config(_shuffled(config, chance), target, world_size)
    assert (one.resolved or {}).get("digest") == (other.resolved or {}).get("digest")
    assert {d[:2] for d in one.diagnostics} == {d[:2] for d in other.diagnostics}


def _shuffled(node, chance):
    """Return the mapping with its keys, and those of its sections, in another order."""
    keys = [*node]
    chance.shuffle(keys)
    return {key: _shuffled(node[key], chance) if isinstance(node[key], dict) else node[key] for key in keys}


@given(configs(), PROCESSES, st.sampled_from(TARGETS), st.data())
@examples(200)
def test_the_digest_covers_every_value(config, world_size, target, data):
    resolved = case(config, target, world_size).resolved
    assert resolved["digest"] == digest(resolved)
    place = data.draw(st.sampled_from([at for at in _places(resolved) if at != ("digest",)]))
    changed = json.loads(json.dumps(resolved))
    section = _get(changed, place[:-1])
    section[place[-1]] = _other(section[place[-1]])
    assert digest(changed) != resolved["digest"]


def _places(node, path=()):
    """Yield the paths of all values, sections too."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _other(value):
    return {True: False, False: True, None: 0}[value] if value in (True, False, None) else f"{value}x"


# What the target does not change is the same in all of them.

# Arguments of transformers' own trainer whose form or default differs between the targets.
DIFFERING = {
    "fsdp",  # a switch, and names of modes before
    "warmup_steps",  # a share below 1, and an argument of its own before
    "resume_from_checkpoint",  # never passed: `silogen train` resumes
}


def _common():
    """Return the arguments that every target has, and silogen has a value for, whatever the config."""
    surfaces = [load_target(name).classes["TrainingArguments"].keys() for name in TARGETS]
    canonical = bundle()["$defs"]["SilogenTrainingArguments"]["properties"]
    known = {key for key, node in canonical.items() if not node.get("deprecated")}
    derived = {"per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"}
    return sorted(set.intersection(*map(set, surfaces)) & (known | derived) - DIFFERING)


COMMON = _common()


@given(configs(), PROCESSES)
@examples(200)
def test_what_all_targets_have_is_the_same_in_all(config, world_size):
    found = [compile_config(config, target, world_size).resolved for target in TARGETS]
    args = [resolved["trainer"]["args"] for resolved in found if resolved]
    for other in args[1:]:
        assert {key: other[key] for key in COMMON} == {key: args[0][key] for key in COMMON}


# What compiles, the real classes take, and hold.

# On a machine without the GPU, processes or packages that a config asks for, these say so.
OVERRIDDEN = {"use_cpu": True, "tf32": None, "ddp_backend": None, "deepspeed": None}


def _parsed(value, held, _):
    """A mapping may be written as JSON text."""
    return held == (json.loads(value) if isinstance(value, str) else value)


def _options(value, held, _):
    return held == (value.split() if isinstance(value, str) else value)


def _fields(value, held, _):
    """A mapping becomes an object of a class, or is completed."""
    read = (lambda key: held[key]) if isinstance(held, dict) else functools.partial(getattr, held)
    return all(read(key) == below for key, below in (value or {}).items())


def _trackers(value, held, _):
    names = [value] if isinstance(value, str) else value
    return names == ["all"] or held == [name for name in names if name != "none"]


def _compiles(_, held, args):
    """Choosing how to compile turns it on."""
    return held is bool(args["torch_compile"] or args["torch_compile_backend"] or args["torch_compile_mode"])


HELD = {
    "accelerator_config": _fields,
    "activation_checkpointing_kwargs": _parsed,
    "gradient_checkpointing_kwargs": _parsed,
    "lr_scheduler_kwargs": _parsed,
    "fsdp_config": _fields,
    "debug": _options,
    "fsdp": lambda value, held, _: held is bool(value),
    "report_to": _trackers,
    "torch_compile": _compiles,
    "torch_compile_backend": lambda value, held, _: value is None and held == "inductor",
    "do_eval": lambda _, held, args: held is (args["eval_strategy"] != "no"),
    "eval_steps": lambda value, held, args: not value and held == args["logging_steps"],
    "metric_for_best_model": lambda value, held, _: value is None and held == "loss",
    "greater_is_better": lambda value, held, _: value is None and isinstance(held, bool),  # by the metric
    "include_num_input_tokens_seen": lambda value, held, _: held == {True: "all", False: "no"}[value],
    "gradient_checkpointing": lambda value, held, _: value is None and held is False,
    "activation_checkpointing": lambda value, held, _: value is None and held is False,
}


def _plain_held(value):
    value = getattr(value, "value", value)
    return [getattr(item, "value", item) for item in value] if isinstance(value, list) else value


def _trainer(resolved, folder):
    """Yield the arguments that the trainer's class holds as something else."""
    args = resolved["trainer"]["args"] | OVERRIDDEN | {"output_dir": str(folder)}
    built = getattr(trl, resolved["trainer"]["args_class"])(**args)
    for name, value in args.items():
        held = _plain_held(getattr(built, name))
        if held != value and (value, held) != CONVERTED.get(name) and not _is_held(name, value, held, args):
            yield name, value, held


def _is_held(name, value, held, args):
    return name in HELD and HELD[name](value, held, args)


# What peft works out where it is null.
WORKED_OUT = {
    ("SupertuningConfig", "lora_alpha"),  # twice the rank
    ("CPTConfig", "num_virtual_tokens"),  # the number of its tokens
    ("CPTConfig", "num_transformer_submodules"),  # 1, for a causal model
}


def _peft(resolved):
    """Yield the arguments that the adapter's class holds as something else."""
    section = resolved["peft"]
    if section is None or "class" not in section:
        return
    built = getattr(peft, section["class"])(**section["kwargs"])
    for name, value in section["kwargs"].items():
        held = getattr(built, name)
        if isinstance(held, set):
            same_held = held == set(value)  # a list of names, whose order has no meaning
        elif isinstance(value, dict) and not isinstance(held, dict):
            same_held = _fields(value, held, None)  # a mapping becomes an object of a class
        else:
            same_held = held == value or (value is None and (section["class"], name) in WORKED_OUT)
        if not same_held:
            yield section["class"], name, value, held


# What bitsandbytes' config takes where a type is null.
DTYPES = {"bnb_4bit_compute_dtype": torch.float32, "bnb_4bit_quant_storage": torch.uint8}


def _bitsandbytes(resolved):
    """Yield the arguments that the class of the quantization holds as something else."""
    kwargs = (resolved["quantization"] or {}).get("kwargs", {})
    built = transformers.BitsAndBytesConfig(**kwargs)
    for name, value in kwargs.items():
        wanted = value
        if name in DTYPES:
            wanted = DTYPES[name] if value is None else getattr(torch, value)
        if getattr(built, name) != wanted:
            yield name, value, getattr(built, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@given(config=configs(), world_size=PROCESSES)
@examples(250)
def test_the_real_classes_take_what_compiles_and_hold_it(folder, config, world_size):
    resolved = case(config, DEFAULT_TARGET, world_size).resolved
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries think of the values is not the question
        problems = [*_trainer(resolved, folder), *_peft(resolved), *_bitsandbytes(resolved)]
    assert not problems
