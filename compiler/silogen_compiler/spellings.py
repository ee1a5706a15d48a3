"""What the arguments of today are called, and how their values are written, in other library versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from silogen_compiler.landings import ARGS
from silogen_compiler.launch import older_sharding
from silogen_compiler.values import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.lower import Lowered

# From an argument of today to the older arguments that say the same; None where none does.
OLDER: dict[str, Callable[[Any], dict[str, Any] | None]] = {
    "activation_checkpointing": lambda _: {},  # gradient_checkpointing holds the same
    "activation_checkpointing_kwargs": lambda _: {},
    "train_sampling_strategy": lambda value: (
        {"group_by_length": value == "group_by_length"} if value in ("random", "group_by_length") else None
    ),
    "max_length": lambda value: {"max_seq_length": value},
}


def older_names(lowered: Lowered) -> None:
    """Rename what the target's class does not know and another name of it does."""
    args, surface = lowered.kwargs(ARGS), _surface(lowered)
    for key, convert in OLDER.items():
        older = convert(args[key]) if key in args and key not in surface else None
        if older is not None and older.keys() <= surface.keys():
            origin, _ = lowered.take((*ARGS, key))
            del args[key]
            for name, value in older.items():
                lowered.put((*ARGS, name), value, origin)


def warmup(lowered: Lowered) -> None:
    """Until transformers 4, a share of all steps had an argument of its own, and steps were whole numbers."""
    if "warmup_ratio" not in _surface(lowered):
        return
    args, origin = lowered.kwargs(ARGS), lowered.origins[*ARGS, "warmup_steps"]
    steps = args["warmup_steps"]
    is_share = 0 < steps < 1
    if is_share or "warmup_ratio" not in args:  # a ratio of 1 can be written in no other way
        lowered.put((*ARGS, "warmup_ratio"), steps if is_share else 0.0, origin)
    lowered.put((*ARGS, "warmup_steps"), 0 if is_share else int(steps), origin)


def logging_dir(lowered: Lowered) -> None:
    """Until transformers 4, TensorBoard's folder was an argument, not an environment variable."""
    environment = lowered.resolved["trainer"]["environment"]
    place = ("trainer", "environment", "TENSORBOARD_LOGGING_DIR")
    if "logging_dir" in _surface(lowered) and place[-1] in environment:
        lowered.put((*ARGS, "logging_dir"), environment.pop(place[-1]), lowered.origins.pop(place))


def fsdp(lowered: Lowered) -> None:
    """Until transformers 4, FSDP was turned on by the names of its modes."""
    args = lowered.kwargs(ARGS)
    if "fsdp_min_num_params" in _surface(lowered) and isinstance(args["fsdp"], bool):
        origin = lowered.origins[*ARGS, "fsdp"]
        lowered.put((*ARGS, "fsdp"), "full_shard" if args["fsdp"] else "", origin)
        older_sharding(lowered)


def _surface(lowered: Lowered) -> dict[str, Any]:
    return lowered.target.classes[lowered.resolved["trainer"]["args_class"]]


def losses(lowered: Lowered) -> None:
    """Write DPO's losses as TRL 1.16 takes them: a list of names, some renamed, with weights.

    `rpo_alpha` becomes the loss `sft`, and the smoothed `sigmoid` the `robust` loss that equals it: both by
    the formulas of TRL 0.13 and 1.16, compared by running both.
    """
    args = lowered.kwargs(ARGS)
    if "loss_type" not in args or "rpo_alpha" in _surface(lowered):
        return
    names = [args["loss_type"]] if isinstance(args["loss_type"], str) else list(args["loss_type"])
    alpha, smoothing = args.pop("rpo_alpha"), args["label_smoothing"]
    if names == ["sigmoid"] and smoothing:
        names = ["robust"]
        _rewrite(lowered, "label_smoothing", -smoothing / (1 - 2 * smoothing), "-ε / (1 - 2ε) of")
    if names == ["exo_pair"] and not smoothing:
        _rewrite(lowered, "label_smoothing", 1e-3, "exo_pair needs some, not")
    if alpha:
        weights = [*(args["loss_weights"] or [1.0] * len(names)), alpha]
        lowered.put((*ARGS, "loss_weights"), weights, lowered.origins[*ARGS, "rpo_alpha"])
        names = [*names, "sft"]
    renamed = ["aot_unpaired" if name == "aot_pair" else name for name in names]
    lowered.put((*ARGS, "loss_type"), renamed, lowered.origins[*ARGS, "loss_type"])


def _rewrite(lowered: Lowered, key: str, value: Any, why: str) -> None:
    old, origin = lowered.kwargs(ARGS)[key], lowered.origins[*ARGS, key]
    lowered.put((*ARGS, key), value, Origin(f"{why} {old} ({origin.text})"))


def prompt_length(lowered: Lowered) -> None:
    """Give the longest prompt to the target as an argument where it takes one."""
    place = ("data", "max_prompt_length")
    if "max_prompt_length" in _surface(lowered) and lowered.values["method"] == "dpo":
        value = lowered.resolved["data"]["max_prompt_length"]
        lowered.put((*ARGS, "max_prompt_length"), value, lowered.origins[place])


def alpha_divergence(lowered: Lowered) -> None:
    """Turn the coefficient of the alpha divergence round: TRL 1 counts it from the other end."""
    if lowered.values["method"] == "dpo" and "rpo_alpha" not in _surface(lowered):
        key = "f_alpha_divergence_coef"
        _rewrite(lowered, key, 1 - lowered.kwargs(ARGS)[key], "1 -")


SPELLINGS = (older_names, warmup, logging_dir, fsdp, losses, prompt_length, alpha_divergence)
