"""The DeepSpeed config of a run, with what transformers would put in place of `auto`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin

    Args = dict[str, Any]


def _warmup_steps(args: Args) -> Any:
    """Return the steps of the warmup, at least 1 for DeepSpeed; `auto` for a share of unknown steps."""
    warmup = args.get("warmup_ratio") or args["warmup_steps"]
    if not 0 < warmup < 1:
        return max(1, int(args["warmup_steps"]))
    return max(1, math.ceil(args["max_steps"] * warmup)) if args["max_steps"] > 0 else "auto"


# What transformers writes where a config says `auto`, by dotted key. The other ones follow from the data or
# the model, and stay `auto`.
AUTO: dict[str, Callable[[Args], Any]] = {
    "train_micro_batch_size_per_gpu": lambda args: args["per_device_train_batch_size"],
    "gradient_accumulation_steps": lambda args: args["gradient_accumulation_steps"],
    "gradient_clipping": lambda args: args["max_grad_norm"],
    "optimizer.params.lr": lambda args: args["learning_rate"],
    "optimizer.params.betas": lambda args: [args["adam_beta1"], args["adam_beta2"]],
    "optimizer.params.eps": lambda args: args["adam_epsilon"],
    "optimizer.params.weight_decay": lambda args: args["weight_decay"],
    "scheduler.params.warmup_min_lr": lambda _: 0,
    "scheduler.params.warmup_max_lr": lambda args: args["learning_rate"],
    "scheduler.params.total_num_steps": lambda args: args["max_steps"] if args["max_steps"] > 0 else "auto",
    "scheduler.params.warmup_num_steps": _warmup_steps,
    "fp16.enabled": lambda args: args["fp16"] or args["fp16_full_eval"],
    "bf16.enabled": lambda args: bool(args["bf16"] or args["bf16_full_eval"]),
}


def emit(resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str]) -> str:
    """Return DeepSpeed's JSON. Refused for a run without DeepSpeed, or with its config in another file."""
    del origins, inputs
    config = filled_in(resolved)
    if config is None:
        message = "the config does not use DeepSpeed"
        help_text = "write `deepspeed: {zero_optimization: {stage: 2}}` under training_args"
        raise Refused(Diagnostic("SG505", message, help=help_text))
    if isinstance(config, str):
        message = f"`deepspeed` names the file `{config}`, which is not read"
        help_text = f"put what it holds into the config: `--set-file training_args.deepspeed={config}`"
        raise Refused(Diagnostic("SG505", message, help=help_text))
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def filled_in(resolved: dict[str, Any]) -> dict[str, Any] | str | None:
    """Return the DeepSpeed config of a run; the path of its file where it has one; None without DeepSpeed."""
    args = resolved["trainer"]["args"]
    config = args["deepspeed"]
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError:
            return str(config)
    if not config:
        return None
    processes = resolved["launch"]["world_size"]
    sizes = args["per_device_train_batch_size"] * args["gradient_accumulation_steps"]
    filled: dict[str, Any] = _fill(config, (), {"train_batch_size": processes * sizes}, args)
    return filled


def _fill(node: Any, path: tuple[str, ...], known: dict[str, Any], args: Args) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, (*path, key), known, args) for key, value in node.items()}
    key = ".".join(path)
    if node != "auto" or (key not in known and key not in AUTO):
        return node
    return known[key] if key in known else AUTO[key](args)
