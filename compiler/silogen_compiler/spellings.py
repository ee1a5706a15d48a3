"""What the arguments of today are called, and how their values are written, in other library versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from silogen_compiler.landings import ARGS
from silogen_compiler.resolve import Origin

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
    "loss_type": lambda value: {"loss_type": value},
}


def older_names(lowered: Lowered) -> None:
    """Rename what the target's class does not know and another name of it does."""
    args, surface = lowered.kwargs(ARGS), _surface(lowered)
    for key, convert in OLDER.items():
        older = convert(args[key]) if key in args and key not in surface else None
        if older is not None and older.keys() <= surface.keys():
            origin = lowered.origins.pop((*ARGS, key))
            del args[key]
            for name, value in older.items():
                lowered.put((*ARGS, name), value, origin)


def warmup(lowered: Lowered) -> None:
    """Until transformers 4, a share of all steps had an argument of its own, and steps were whole numbers."""
    if "warmup_ratio" not in _surface(lowered):
        return
    steps, origin = lowered.kwargs(ARGS)["warmup_steps"], lowered.origins[*ARGS, "warmup_steps"]
    is_share = 0 < steps < 1
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


def _surface(lowered: Lowered) -> dict[str, Any]:
    return lowered.target.classes[lowered.resolved["trainer"]["args_class"]]


def losses(lowered: Lowered) -> None:
    """Write DPO's losses as TRL 1.16 takes them: a list of names, some renamed, with weights."""
    args = lowered.kwargs(ARGS)
    if lowered.values["method"] != "dpo" or "loss_weights" not in _surface(lowered):
        return
    origin = lowered.origins[*ARGS, "loss_type"]
    names = [args["loss_type"]] if isinstance(args["loss_type"], str) else list(args["loss_type"])
    renamed = {} if "rpo_alpha" in _surface(lowered) else {"aot_pair": "aot_unpaired"}
    lowered.put((*ARGS, "loss_type"), [renamed.get(name, name) for name in names], origin)


def alpha_divergence(lowered: Lowered) -> None:
    """Turn the coefficient of the alpha divergence round: TRL 1 counts it from the other end."""
    args = lowered.kwargs(ARGS)
    if lowered.values["method"] == "dpo" and "rpo_alpha" not in _surface(lowered):
        old = args["f_alpha_divergence_coef"]
        origin = Origin(f"1 - {old} ({lowered.origins[*ARGS, 'f_alpha_divergence_coef'].text})")
        lowered.put((*ARGS, "f_alpha_divergence_coef"), 1 - old, origin)


SPELLINGS = (older_names, warmup, logging_dir, fsdp, losses, alpha_divergence)
