"""What the arguments of today are called, and how their values are written, in other library versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from silogen_compiler.lower.landings import ARGS
from silogen_compiler.lower.launch import older_sharding

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.lower.lowering import Lowered

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
    args, surface = lowered.kwargs(ARGS), lowered.surface()
    for key, convert in OLDER.items():
        older = convert(args[key]) if key in args and key not in surface else None
        if older is not None and older.keys() <= surface.keys():
            origin, _ = lowered.take((*ARGS, key))
            del args[key]
            for name, value in older.items():
                lowered.put((*ARGS, name), value, origin)


def warmup(lowered: Lowered) -> None:
    """Until transformers 4, a share of all steps had an argument of its own, and steps were whole numbers."""
    if "warmup_ratio" not in lowered.surface():
        return
    args, origin = lowered.kwargs(ARGS), lowered.origins[*ARGS, "warmup_steps"]
    steps = args["warmup_steps"]
    is_share = 0 < steps < 1
    if is_share or "warmup_ratio" not in args:  # a ratio of 1 can be written in no other way
        lowered.put((*ARGS, "warmup_ratio"), steps if is_share else 0.0, origin)
    lowered.put((*ARGS, "warmup_steps"), 0 if is_share else int(steps), origin)


def logging_dir(lowered: Lowered) -> None:
    """Until transformers 4, TensorBoard's folder was an argument; null sets no variable either."""
    environment = lowered.resolved["trainer"]["environment"]
    place = ("trainer", "environment", "TENSORBOARD_LOGGING_DIR")
    if place[-1] not in environment:
        return
    is_argument = "logging_dir" in lowered.surface()
    if is_argument or environment[place[-1]] is None:
        folder, origin = environment.pop(place[-1]), lowered.origins.pop(place)
        if is_argument:
            lowered.put((*ARGS, "logging_dir"), folder, origin)


def fsdp(lowered: Lowered) -> None:
    """Until transformers 4, FSDP was turned on by the names of its modes."""
    args = lowered.kwargs(ARGS)
    if "fsdp_min_num_params" in lowered.surface() and isinstance(args["fsdp"], bool):
        origin = lowered.origins[*ARGS, "fsdp"]
        lowered.put((*ARGS, "fsdp"), "full_shard" if args["fsdp"] else "", origin)
        older_sharding(lowered)


SPELLINGS = (older_names, warmup, logging_dir, fsdp)
