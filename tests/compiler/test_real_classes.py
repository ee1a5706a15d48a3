"""What a config is lowered to, the real classes of the real libraries take."""

from __future__ import annotations

import importlib.util

import peft
import pytest
import transformers
import trl
from cases import compile_case, examples, inputs, settings_of
from transformers.trainer_pt_utils import AcceleratorConfig

# The cases for the installed libraries; those for other targets have no classes here to be held against.
VALID = {
    name: path
    for name, path in {**inputs("valid"), **examples()}.items()
    if "target" not in settings_of(path)
}


@pytest.fixture(params=VALID)
def resolved(request, monkeypatch):
    return compile_case(VALID[request.param], monkeypatch).resolved


# Arguments that SFTConfig turns into another form of the same: the written value, and what it then holds.
CONVERTED = {
    "accelerator_config": (None, AcceleratorConfig()),
    "debug": ("", []),
    "disable_tqdm": (None, False),
    "greater_is_better": (None, False),  # a loss is better when it is lower
    "do_eval": (False, True),  # eval_strategy turns it on
    "pad_to_multiple_of": ("auto", None),
    "dataloader_pin_memory": (True, False),  # nothing to copy to on a CPU
    "fsdp": ("full_shard auto_wrap", True),
    "report_to": ("none", []),
}


def test_trainer_arguments_hold_what_was_resolved(resolved, tmp_path):
    args = resolved["trainer"]["args"] | {"output_dir": str(tmp_path), "use_cpu": True}
    if args["deepspeed"] and not importlib.util.find_spec("deepspeed"):
        pytest.skip("SFTConfig takes a DeepSpeed config only where deepspeed is installed")
    built = getattr(trl, resolved["trainer"]["args_class"])(**args)
    held = {name: getattr(getattr(built, name), "value", getattr(built, name)) for name in args}
    if args["fsdp"]:
        del args["fsdp_config"]  # the class completes it
    for name, value in args.items():
        assert held[name] == value or (value, held[name]) == CONVERTED.get(name), name


def test_adapter_config(resolved):
    if resolved["peft"] and "class" in resolved["peft"]:
        kwargs = resolved["peft"]["kwargs"]
        built = getattr(peft, resolved["peft"]["class"])(**kwargs)
        held = {name: _as_mapping(getattr(built, name), kwargs[name]) for name in kwargs}
        held["target_modules"] = (
            sorted(held["target_modules"]) if _is_set(held) else held.get("target_modules")
        )
        assert held == {"target_modules": None, **kwargs}


def _as_mapping(held, value):
    """Return what a class of its own holds of a mapping that was written."""
    made = isinstance(value, dict) and not isinstance(held, dict)
    return {key: getattr(held, key) for key in value} if made else held


def _is_set(held):
    return isinstance(held.get("target_modules"), set)


def test_quantization_config(resolved):
    if resolved["quantization"]:
        kwargs = resolved["quantization"]["kwargs"]
        built = transformers.BitsAndBytesConfig(**kwargs)
        assert (built.load_in_4bit, built.load_in_8bit) == (kwargs["load_in_4bit"], kwargs["load_in_8bit"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=16
    )
    folder = tmp_path_factory.mktemp("model")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def test_model_arguments_load_a_model(resolved, model):
    kwargs = resolved["model"]["from_pretrained"] | {
        "pretrained_model_name_or_path": model,
        "token": None,
        "trust_remote_code": False,
        "max_memory": None,  # its keys are text here; the runtime makes numbers of them
    }
    loaded = transformers.AutoModelForCausalLM.from_pretrained(**kwargs)
    assert loaded.config.use_cache == kwargs["use_cache"]
    if kwargs["dtype"] != "auto":
        assert str(loaded.dtype) == f"torch.{kwargs['dtype']}"
