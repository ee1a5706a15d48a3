"""`python -m silogen_runtime.harvest_families` writes the compiler's model_families.json.

The table holds facts of the installed transformers and peft: for each family of models the names of its
modules, with `*` for a number, and the types whose weights have other names on disk than in the model.
"""

from __future__ import annotations

import copy
import json
import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft.utils import transformers_weight_conversion as peft_conversion
from transformers import AutoConfig, AutoModelForCausalLM, Conv1D, conversion_mapping

FAMILIES = (
    "deepseek_v2",
    "deepseek_v3",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
)

# Settings that give a model further modules, each tried with the families whose config has the key.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"q_lora_rank": None},
    {"first_k_dense_replace": 1},
    {"mlp_only_layers": [0]},
    {"parallel_attn": False},
    {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 2},
)

Names = dict[str, None]  # a set in order


def harvest() -> dict[str, Any]:
    """Return the table for the versions that are installed."""
    return {
        "packages": {package: version(package) for package in ("transformers", "peft")},
        "families": {family: harvest_family(family) for family in FAMILIES},
        "renamed": renamed_types(),
    }


def harvest_family(family: str) -> dict[str, list[str]]:
    """Return the modules of a family: those that are linear layers, the others, and experts.

    `experts` are names that peft takes for parts of the weights in which transformers 5 keeps all experts.
    """
    linear: Names = {}
    other: Names = {}
    experts: Names = {}
    config = AutoConfig.for_model(family)
    for variant in VARIANTS:
        if all(hasattr(config, key) for key in variant):
            model = build(config, variant)
            for name, module in model.named_modules():
                is_linear = isinstance(module, (torch.nn.Linear, Conv1D))
                (linear if is_linear else other)[starred(name)] = None
            experts |= dict.fromkeys(expert_names(family, model))
    other.pop("")
    return {"linear": list(linear), "other": list(other), "experts": list(experts)}


def build(config: Any, variant: dict[str, Any]) -> torch.nn.Module:
    """Build the model without weights."""
    config = copy.deepcopy(config)
    for key, value in variant.items():
        setattr(config, key, value)
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return model


def starred(name: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def expert_names(family: str, model: torch.nn.Module) -> list[str]:
    pattern = peft_conversion._MODEL_TO_CONVERSION_PATTERN.get(family, "")  # noqa: SLF001 - peft has no other place for it
    renamed = peft_conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, {})  # noqa: SLF001
    places = [name.rpartition(".") for name, _ in model.named_parameters()]
    return [
        f"{starred(place)}.{old}" for place, _, leaf in places for old, new in renamed.items() if leaf == new
    ]


def renamed_types() -> list[str]:
    """Return the model types with renamings of their own; those of class names are left out."""
    patterns = conversion_mapping._MODEL_TO_CONVERSION_PATTERN  # noqa: SLF001 - transformers has no other place for it
    built = conversion_mapping._build_checkpoint_conversion_mapping()  # type: ignore[no-untyped-call] # noqa: SLF001
    types = {*patterns, *built}
    return sorted(name for name in types if name == name.lower() and name != "legacy")


def main() -> None:
    spec = find_spec("silogen_compiler.rules")
    assert spec is not None
    assert spec.origin is not None
    text = json.dumps(harvest(), indent=1) + "\n"
    Path(spec.origin).with_name("model_families.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
