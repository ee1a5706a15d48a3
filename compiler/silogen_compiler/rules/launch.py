"""Rules for general.py: what the `launch` section and the ways to share a model ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Findings
from silogen_compiler.lower.launch import (
    AUTO,
    HALF_PRECISION,
    OF_STRATEGY,
    compute_type,
    shards_parameters,
    strategy,
    zero_stage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.values import Values

# Arguments of transformers that say the same as a strategy.
BY_HAND = ("deepspeed", "fsdp", "fsdp_config")


def key_of_other_strategy(values: Values) -> Findings:
    for key, owner in OF_STRATEGY.items():
        if values.is_written(f"launch.{key}") and strategy(values) != owner:
            message = f"`{key}` is a setting of strategy {owner}"
            label = f"write `strategy: {owner}`, or remove it"
            note = values.also("launch.strategy")
            yield Diagnostic("SG360", message, values.span(f"launch.{key}"), label, notes=note)


def one_description_of_the_strategy(values: Values) -> Findings:
    chosen = strategy(values)
    for key in BY_HAND if chosen else ():
        if values[f"training_args.{key}"] is not None:
            message = f"`launch.strategy` is {chosen}, and `training_args.{key}` says it too"
            note = values.also(f"training_args.{key}") if key == "fsdp" else ()
            span = values.span("launch.strategy")
            yield Diagnostic("SG361", message, span, "remove one of them", notes=note)


def sharding_needs_gpus(values: Values) -> Findings:
    sharded = shards_parameters(values)
    if values["training_args.use_cpu"] and sharded:
        message = f"{sharded} does not train on the CPU"
        label = "`ddp`, ZeRO 1 and ZeRO 2 do"
        note = values.also("training_args.use_cpu")
        yield Diagnostic("SG362", message, values.span(_written_strategy(values)), label, notes=note)


def _written_strategy(values: Values) -> str:
    if strategy(values):
        return "launch.strategy"
    return "training_args.fsdp" if values["training_args.fsdp"] else "training_args.deepspeed"


def offload_fits_strategy(values: Values) -> Findings:
    launch = values["launch"]
    if not launch or launch["cpu_offload"] == "none":
        return
    offload, stage = launch["cpu_offload"], zero_stage(values)
    possible = {"deepspeed": ["optimizer", *(["all"] if stage == 3 else [])], "fsdp": ["all"]}  # noqa: PLR2004 - ZeRO's stage
    fitting = possible.get(strategy(values) or "", [])
    if offload not in fitting:
        by = {"deepspeed": f"DeepSpeed at stage {stage}", "fsdp": "FSDP"}.get(strategy(values) or "")
        message = f"{by} can't offload `{offload}`" if by else "only DeepSpeed and FSDP offload to the CPU"
        label = f"write {' or '.join(fitting)}" if fitting else "choose a `strategy`, or remove it"
        note = values.also("launch.strategy")
        yield Diagnostic("SG363", message, values.span("launch.cpu_offload"), label, notes=note)


def sharded_quantization(values: Values) -> Findings:
    """Refuse quantized weights that can't be sharded: FSDP's in 8 bits, and those stored in another type."""
    sharded, widths = shards_parameters(values), values.bit_widths()
    if widths == [8] and sharded == "FSDP":
        message = f"{sharded} can't shard weights in 8 bits"
        span = values.span("quant_conf.load_in_8bit")
        yield Diagnostic("SG364", message, span, "write `load_in_4bit: true`")
    if widths != [4] or not sharded:
        return
    storage, wanted = values["quant_conf.bnb_4bit_quant_storage"], compute_type(values)
    if storage not in (None, wanted):
        message = f"{sharded} shards 4-bit weights only where they are stored as {wanted}"
        span = values.span("quant_conf.bnb_4bit_quant_storage")
        yield Diagnostic("SG364", message, span, f"write {wanted}, or remove it")


def number_known_at_launch(values: Values) -> Findings:
    launch = values["launch"]
    if launch and launch["processes_per_node"] == AUTO and values.given_world_size is None:
        message = f"the number of GPUs is known at the start only: compiled for {_count(values.world_size)}"
        label = "add `--world-size`; `silogen train` counts them itself"
        yield Diagnostic("SG365", message, values.span("launch.processes_per_node"), label)


def numbers_agree(values: Values) -> Findings:
    """Compare the number of processes with what `launch` says: a launcher may have started others."""
    launch, given = values["launch"], values.given_world_size
    if not launch or given is None:
        return
    nodes, processes = launch["nodes"] or 1, launch["processes_per_node"]
    if given % nodes:
        message = f"{_count(given)} do not divide among {nodes} machines"
        yield Diagnostic("SG366", message, values.span("launch.nodes"), "remove it, or start others")
    elif _differs(values, nodes * (1 if processes == AUTO else processes)):
        message = f"compiled for {_count(given)}, not for those that `launch` asks for"
        label = f"this makes {nodes * processes}"
        yield Diagnostic("SG367", message, values.span("launch.processes_per_node"), label)


def one_half_precision_with_deepspeed(values: Values) -> Findings:
    """Refuse what transformers 5.23 refuses at the start: its word for DeepSpeed's type is either of two."""
    for half in HALF_PRECISION:
        key, training = f"training_args.{half}_full_eval", f"training_args.{half}"
        if strategy(values) == "deepspeed" and values[key] and not values[training]:
            message = f"DeepSpeed evaluates in the type that it trains in, and `{half}` is off"
            label = f"write `{half}: true`, or remove it"
            note = values.also("launch.strategy")
            yield Diagnostic("SG368", message, values.span(key), label, notes=note)


def _differs(values: Values, asked: int) -> bool:
    """Tell whether a written number of processes is not the given one; open numbers of machines fit any."""
    launch, given = values["launch"], values.given_world_size
    assert given is not None
    if launch["processes_per_node"] == AUTO or not values.is_written("launch.processes_per_node"):
        return False
    return bool(given % asked) if launch["nodes"] is None else given != asked


def _count(number: int) -> str:
    return f"{number} process{'es' * (number > 1)}"


LAUNCH_RULES: tuple[Callable[[Values], Findings], ...] = (
    key_of_other_strategy,
    one_description_of_the_strategy,
    sharding_needs_gpus,
    offload_fits_strategy,
    sharded_quantization,
    number_known_at_launch,
    numbers_agree,
    one_half_precision_with_deepspeed,
)
