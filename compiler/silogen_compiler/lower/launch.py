"""The `launch` section: how many processes train, and how they share the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.lower.landings import ARGS
from silogen_compiler.values import DEFAULT, Origin

if TYPE_CHECKING:
    from silogen_compiler.lower.lowering import Lowered
    from silogen_compiler.values import Values

AUTO = "auto"
RENDEZVOUS = ("rdzv_endpoint", "rdzv_backend", "rdzv_id")

# Keys that belong to one strategy, with what they say.
OF_STRATEGY = {"zero_stage": "deepspeed", "fsdp_version": "fsdp"}

HALF_PRECISION = {"bf16": "bfloat16", "fp16": "float16"}

PARAMETERS_SHARDED = 3  # the stage of ZeRO from which on no process holds all parameters


def strategy(values: Values) -> str | None:
    """Return the strategy that `launch` asks for; None where it leaves that to `training_args`."""
    chosen: str | None = (values["launch"] or {}).get("strategy")
    return chosen


def zero_stage(values: Values) -> int:
    """Return the stage of ZeRO that the config shards with, 0 where it does not or only a file tells."""
    if strategy(values) == "deepspeed":
        stage: int = values["launch.zero_stage"]
        return stage
    written = values["training_args.deepspeed"]
    section = written.get("zero_optimization") if isinstance(written, dict) else None
    stage = section.get("stage", 0) if isinstance(section, dict) else 0
    return stage if isinstance(stage, int) else 0


def uses_fsdp(values: Values) -> bool:
    return strategy(values) == "fsdp" or bool(values["training_args.fsdp"])


def shards_parameters(values: Values) -> str:
    """Return what shards the parameters themselves, as people call it; "" where each process has all."""
    if uses_fsdp(values):
        return "FSDP"
    return "ZeRO 3" if zero_stage(values) == PARAMETERS_SHARDED else ""


def compute_type(values: Values) -> str:
    """Return the number type that training computes in."""
    half = [name for key, name in HALF_PRECISION.items() if values[f"training_args.{key}"]]
    return half[0] if half else "float32"


def world_size_origin(values: Values) -> Origin | None:
    """Return where the number of processes comes from; None where nothing says it and it is one."""
    if values.given_world_size is not None:
        return Origin("--world-size")
    if not values["launch"]:
        return None
    written = [key for key in ("nodes", "processes_per_node") if values["launch"][key] not in (None, AUTO)]
    return Origin(" × ".join(values.shown(f"launch.{key}") for key in written) or "one on each machine")


def strategy_arguments(values: Values) -> None:
    """Write the strategy as the arguments that transformers takes."""
    name = strategy(values)
    if name == "deepspeed":
        values.set("training_args.deepspeed", deepspeed_config(values), f"launch.strategy {name}")
    elif name == "fsdp":
        values.set("training_args.fsdp", value=True, text=values.shown("launch.strategy"))
        values.set("training_args.fsdp_config", fsdp_config(values), f"launch.strategy {name}")


def deepspeed_config(values: Values) -> dict[str, Any]:
    """Return a DeepSpeed config in its own words, without the batch sizes.

    The optimizer stays that of `optim`, also where its state is in main memory.
    """
    stage, offload = values["launch.zero_stage"], values["launch.cpu_offload"]
    zero: dict[str, Any] = {"stage": stage}
    if offload != "none":
        place = {"device": "cpu", "pin_memory": not values["training_args.use_cpu"]}
        zero["offload_optimizer"] = place
        zero |= {"offload_param": dict(place)} if offload == "all" else {}
    if stage == PARAMETERS_SHARDED:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": values["training_args.bf16"]},
        "fp16": {"enabled": values["training_args.fp16"]},
        "gradient_clipping": values["training_args.max_grad_norm"],
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def fsdp_config(values: Values) -> dict[str, Any]:
    version = values["launch.fsdp_version"]
    return {
        "version": version,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "reshard_after_forward": "full_shard" if version == 1 else True,
        "cpu_offload": values["launch.cpu_offload"] == "all",
        "state_dict_type": "FULL_STATE_DICT",
    }


def launch(lowered: Lowered) -> None:
    """Write how the processes of the run are started, with what `launch` leaves open filled in."""
    values, section = lowered.values, lowered.values["launch"]
    origin = world_size_origin(values)
    if origin is not None:
        lowered.put(("launch", "world_size"), values.world_size, origin)
    if section is None:
        return
    chosen = lowered.resolved["launch"].pop("strategy")
    for key, value in layout(values).items():
        same = value == section[key]
        lowered.put(("launch", key), value, values.origin(f"launch.{key}") if same else Origin("world_size"))
    for key in RENDEZVOUS:
        lowered.put(("launch", key), section[key], values.origin(f"launch.{key}"))
    lowered.put(("launch", "strategy"), chosen, _strategy_origin(values, chosen))
    for key, owner in (*OF_STRATEGY.items(), ("cpu_offload", strategy(values))):
        if owner == strategy(values) and owner in OF_STRATEGY.values():
            lowered.put(("launch", key), section[key], values.origin(f"launch.{key}"))


def _strategy_origin(values: Values, chosen: str) -> Origin:
    if chosen == strategy(values):
        return values.origin("launch.strategy")
    if chosen == "single":
        return Origin("one process")
    return DEFAULT if chosen == "ddp" else Origin(f"training_args.{chosen}")


def layout(values: Values) -> dict[str, Any]:
    """Return the number of machines and of processes on each, which multiply to the world size.

    Where only machines without their GPUs are known, the number on each stays "auto".
    """
    section, given = values["launch"], values.given_world_size
    nodes, processes = section["nodes"], section["processes_per_node"]
    if given is None:
        return {"nodes": nodes or 1, "processes_per_node": processes}
    if nodes is None:
        nodes = given // processes if processes != AUTO and given % processes == 0 else 1
    return {"nodes": nodes, "processes_per_node": given // nodes}


def older_sharding(lowered: Lowered) -> None:
    """Write strategy fsdp as transformers 4 takes it: as names of modes. It has FSDP 1 only."""
    values, args = lowered.values, lowered.kwargs(ARGS)
    if strategy(values) != "fsdp":
        return
    if values["launch.fsdp_version"] != 1:
        message = f"{lowered.target.name} has no FSDP 2"
        span = values.span("launch.fsdp_version")
        lowered.diagnostics.append(Diagnostic("SG501", message, span, "write `fsdp_version: 1`"))
    offload = " offload" if args["fsdp_config"]["cpu_offload"] else ""
    lowered.put((*ARGS, "fsdp"), f"full_shard auto_wrap{offload}", lowered.origin((*ARGS, "fsdp")))
    args["fsdp_config"] = None
