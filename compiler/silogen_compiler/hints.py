"""What a person may have meant: near names, other systems' names, and the section that a key belongs to."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

from silogen_compiler.schema import Schema, bundle, deref, find

# What people write, and what it is called here.
ALIASES = {
    "adapter": "peft_conf",
    "alpha": "lora_alpha",
    "attention": "attn_implementation",
    "base_model": "model",
    "batch_size": "total_train_batch_size",
    "bits": "load_in_4bit",
    "chat_template": "chat_template_name",
    "checkpointing": "gradient_checkpointing",
    "compute_dtype": "bnb_4bit_compute_dtype",
    "cutoff_len": "max_seq_length",
    "data": "data_conf",
    "dataset": "datasets",
    "dropout": "lora_dropout",
    "epochs": "num_train_epochs",
    "eval_batch_size": "per_device_eval_batch_size",
    "gradient_clipping": "max_grad_norm",
    "lora": "peft_conf",
    "lora_r": "r",
    "lora_rank": "r",
    "lora_target_modules": "target_modules",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "max_length": "max_seq_length",
    "max_seq_len": "max_seq_length",
    "micro_batch_size": "max_per_device_train_batch_size",
    "mlflow": "tracking",
    "model_name": "model",
    "model_name_or_path": "model",
    "num_epochs": "num_train_epochs",
    "optimizer": "optim",
    "pretrained_model_name_or_path": "model",
    "quantization": "quant_conf",
    "quantization_config": "quant_conf",
    "rank": "r",
    "scheduler": "lr_scheduler_type",
    "sequence_len": "max_seq_length",
    "sft": "sft_args",
    "target": "target_modules",
    "train_batch_size": "total_train_batch_size",
    "train_on_inputs": "train_on_completions_only",
    "training": "training_args",
    "training_arguments": "training_args",
    "val_set_size": "ratio",
    "warmup": "warmup_steps",
    "weight": "sampling_weight",
}

# Keys that silogen works out itself, and where to steer them.
DERIVED = {
    "per_device_train_batch_size": "batchsize_conf.max_per_device_train_batch_size",
    "per_device_eval_batch_size": "batchsize_conf.per_device_eval_batch_size",
    "gradient_accumulation_steps": "batchsize_conf.total_train_batch_size",
}


# A section with more keys than this is not listed in a label.
MOST_LISTED = 8


class Hint(NamedTuple):
    """`label` says what to write; `key` is the dotted key that it leads to, or empty.

    `is_name` tells that what stands there was meant as `key`, in its section or in another one.
    """

    label: str
    key: str = ""
    is_name: bool = True


def suggest_key(name: str, section: str, node: Schema) -> Hint:
    """Return a hint for the unknown key `name` of `section`, whose schema is `node`."""
    here = list(node.get("properties", {}))
    if section == "training_args" and name in DERIVED:
        return Hint(f"silogen derives it; set `{DERIVED[name]}`", DERIVED[name], is_name=False)
    if near := _near(name, here, 0.75):
        return Hint(f"did you mean `{near}`?", _dotted(section, near))
    if (alias := ALIASES.get(name.lower(), "")) in here:
        return Hint(f"it is called `{alias}` here", _dotted(section, alias))
    for target in (name, alias, _near(name, list(_sections()), 0.85)):
        for place in _sections().get(target, [])[:1]:
            label = _elsewhere(name, target, section, place)
            return Hint(label, _dotted(place, target), is_name=place != section)
    return Hint("remove it" if len(here) > MOST_LISTED or not here else f"known keys: {', '.join(here)}")


def places_of(name: str) -> list[str]:
    """Return the sections that take the key `name`, outermost first."""
    return _sections().get(name, [])


def all_keys() -> list[str]:
    """Return the name of every key, whatever its section."""
    return list(_sections())


def suggest_value(value: Any, allowed: list[Any]) -> str:
    """Return a label for a value that is not among `allowed`, or an empty text."""
    near = near_value(value, allowed)
    return f"did you mean `{near}`?" if near else ""


def near_value(value: Any, allowed: list[Any]) -> str:
    """Return the text among `allowed` that a value may mean, or an empty one."""
    words = [option for option in allowed if isinstance(option, str)]
    lowered = {word.lower(): word for word in words}
    name = str(value).lower()
    longer = next((word for word in lowered if name and word.startswith(name)), "")
    near = longer or _near(name, list(lowered), 0.6)
    return lowered.get(near, "")


def _near(name: str, names: list[str], cutoff: float) -> str:
    return next(iter(get_close_matches(name, names, 1, cutoff)), "")


def _dotted(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _elsewhere(name: str, target: str, section: str, place: str) -> str:
    if place == section:
        return f"`{target}` goes with `{_branch_with(target, section)}`"
    called = f"`{target}`" if target == name else f"it is called `{target}` and"
    return f"{called} belongs in `{place}`" if place else f"{called} belongs at the top level"


def _branch_with(key: str, section: str) -> str:
    """Return the tag, with its values, of the branches of a union at or above `section` that take `key`."""
    parts = section.split(".") if section else []
    for end in range(len(parts), -1, -1):
        union = find(tuple(parts[:end]), {"method": "sft"} if end else {})
        branches = [b["if"] for b in union.get("allOf", []) if _takes(deref(b["then"]), parts[end:], key)]
        for tag in branches[0]["properties"] if branches else ():
            values = [value for branch in branches for value in branch["properties"][tag]["enum"]]
            return f"{tag}: {' or '.join(values)}"
    raise AssertionError(f"no branch takes {key}")


def _takes(node: Schema, parts: list[str], key: str) -> bool:
    for part in parts:
        node = deref(node.get("properties", {}).get(part, {}))
        node = deref(node.get("items", node))
    return key in node.get("properties", {})


@cache
def _sections() -> dict[str, list[str]]:
    """Return every key of the config with the sections that take it, outermost first."""
    found: dict[str, list[str]] = {}
    queue = [("", bundle())]
    for section, node in queue:
        for branch in _branches(deref(node)):
            for key, spec in branch.get("properties", {}).items():
                if section not in found.setdefault(key, []):
                    found[key].append(section)
                queue.append((_dotted(section, key), spec))
    return found


def _branches(node: Schema) -> list[Schema]:
    """Return the object schemas that a node may stand for."""
    if "then" in node:
        return _branches(deref(node["then"]))
    if "allOf" in node:
        return [deref(branch["then"]) for branch in node["allOf"]]
    return [deref(node["items"])] if isinstance(node.get("items"), dict) else [node]
