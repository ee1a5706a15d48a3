"""The config file of `accelerate launch` for a run.

The trainer's arguments say what DeepSpeed and FSDP do, and they win. For DeepSpeed accelerate refuses any
second word on it, precision included, so that the file only names it.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.emit.deepspeed import filled_in
from silogen_compiler.emit.yaml_text import emit as emit_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin

    Tree = dict[str, Any]

TYPES = {"single": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}

# From accelerate's settings of FSDP to those of transformers, with what transformers takes where one is not
# written. The second table is what only version 1 of FSDP has.
FSDP: dict[str, tuple[str, Any]] = {
    "fsdp_version": ("version", 2),
    "fsdp_auto_wrap_policy": ("auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
    "fsdp_transformer_layer_cls_to_wrap": ("transformer_layer_cls_to_wrap", None),
    "fsdp_min_num_params": ("min_num_params", 0),
    "fsdp_reshard_after_forward": ("reshard_after_forward", True),
    "fsdp_offload_params": ("cpu_offload", False),
    "fsdp_activation_checkpointing": ("activation_checkpointing", False),
    "fsdp_cpu_ram_efficient_loading": ("cpu_ram_efficient_loading", False),
    "fsdp_state_dict_type": ("state_dict_type", "FULL_STATE_DICT"),
}
FSDP_1: dict[str, tuple[str, Any]] = {
    "fsdp_reshard_after_forward": ("reshard_after_forward", "full_shard"),
    "fsdp_forward_prefetch": ("forward_prefetch", False),
    "fsdp_backward_prefetch": ("backward_prefetch", "no_prefetch"),
    "fsdp_use_orig_params": ("use_orig_params", True),
    "fsdp_sync_module_states": ("sync_module_states", True),
}
UPPER = {"fsdp_reshard_after_forward", "fsdp_backward_prefetch"}
STRATEGIES = {"full_shard": True, "shard_grad_op": False}


def emit(resolved: Tree, origins: dict[Path, Origin], inputs: Sequence[str]) -> str:
    """Return accelerate's YAML. Refused for several processes on CPUs, which it starts over MPI alone."""
    args, launch = resolved["trainer"]["args"], resolved["launch"]
    if args["use_cpu"] and launch["world_size"] > 1:
        message = "accelerate starts several processes on CPUs over MPI only"
        raise Refused(Diagnostic("SG505", message, help="take `--format torchrun`"))
    precision = next((name for name in ("bf16", "fp16") if args[name]), "no")
    config = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": TYPES[launch["strategy"]],
        "num_machines": launch.get("nodes", 1),
        "num_processes": launch["world_size"],
        "machine_rank": 0,
        "main_training_function": "main",
        "use_cpu": bool(args["use_cpu"]),
    }
    if launch["strategy"] == "deepspeed":
        config["deepspeed_config"] = {"zero3_init_flag": _stage(resolved) == 3}  # noqa: PLR2004 - as ZeRO counts
    else:
        config["mixed_precision"] = precision
    if launch["strategy"] == "fsdp":
        config["fsdp_config"] = _fsdp(resolved)
    places = {("use_cpu",): "use_cpu", ("mixed_precision",): precision if precision != "no" else "bf16"}
    found = {at: origins.get(("trainer", "args", key)) for at, key in places.items()}
    comments: dict[Path, Origin] = {at: origin for at, origin in found.items() if origin is not None}
    command = f"accelerate launch --config_file THIS_FILE -m silogen_runtime {shlex.join(inputs)}"
    return "".join(f"# {line}\n" for line in command.split("\n")) + emit_yaml(config, comments)


def _stage(resolved: Tree) -> int | None:
    config = filled_in(resolved)
    stage: int | None = config.get("zero_optimization", {}).get("stage") if isinstance(config, dict) else None
    return stage


def _fsdp(resolved: Tree) -> Tree:
    """Return the settings of FSDP as accelerate calls them."""
    settings = _settings(resolved)
    table = FSDP | FSDP_1 if settings["version"] == 1 else FSDP
    values = {name: settings.get(key, default) for name, (key, default) in table.items()}
    layers = values["fsdp_transformer_layer_cls_to_wrap"]
    if isinstance(layers, list):
        values["fsdp_transformer_layer_cls_to_wrap"] = ",".join(layers)
    upper = {name: values[name].upper() for name in UPPER if isinstance(values.get(name), str)}
    return {name: value for name, value in (values | upper).items() if value is not None}


def _settings(resolved: Tree) -> Tree:
    """Return the settings of FSDP in the form of transformers 5, whichever way they are written."""
    args = resolved["trainer"]["args"]
    written = _as_mapping(args["fsdp_config"])
    newest = int(resolved["target"]["transformers"].partition(".")[0]) > 4  # noqa: PLR2004 - FSDP 1 before
    settings: Tree = {"version": 2 if newest else 1}
    settings |= {key.removeprefix("fsdp_"): value for key, value in written.items()}
    words = args["fsdp"].split() if isinstance(args["fsdp"], str) else args["fsdp"]
    for word in words if isinstance(words, list) else ():
        if word == "offload":
            settings.setdefault("cpu_offload", True)
        elif word != "auto_wrap":
            is_new = settings["version"] != 1
            settings.setdefault("reshard_after_forward", STRATEGIES.get(word, True) if is_new else word)
    return settings


def _as_mapping(config: Any) -> Tree:
    """Return an fsdp_config, which may be JSON text. Refused for the path of a file."""
    if not isinstance(config, str):
        return config or {}
    try:
        return dict(json.loads(config))
    except (ValueError, TypeError):
        message = f"`fsdp_config` names the file `{config}`, which is not read"
        help_text = f"put what it holds into the config: `--set-file training_args.fsdp_config={config}`"
        raise Refused(Diagnostic("SG505", message, help=help_text)) from None
