"""Stage 5: every derived number worked out, each with its arithmetic as origin."""

from __future__ import annotations

from math import isqrt, sqrt
from typing import TYPE_CHECKING

from silogen_compiler.lower.launch import (
    compute_type,
    shards_parameters,
    strategy,
    strategy_arguments,
    uses_fsdp,
)

if TYPE_CHECKING:
    from silogen_compiler.values import Values

DATA_TYPES = {"sft": "ChatConversation", "dpo": "DirectPreference"}


def resolve(values: Values) -> None:
    """Work out every derived value of a config that has no errors."""
    for derive in DERIVATIONS:
        values.start(derive.__name__)
        derive(values)


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`; both are at least 1."""
    small = [d for d in range(1, isqrt(number) + 1) if number % d == 0]
    return max(d for pair in ((d, number // d) for d in small) for d in pair if d <= limit)


def split_batch(values: Values) -> tuple[int, int]:
    """Return the batch size of a device, the largest that divides the total, and the accumulation steps."""
    share = values["batchsize_conf.total_train_batch_size"] // values.world_size
    size = largest_divisor(share, values["batchsize_conf.max_per_device_train_batch_size"])
    return size, share // size


def batch_sizes(values: Values) -> None:
    """Split the total batch: per device the largest size that divides it, accumulation for the rest."""
    processes = values.world_size
    size, steps = split_batch(values)
    noun = "process" if processes == 1 else "processes"
    whole = f"{values.shown('batchsize_conf.total_train_batch_size')} / {processes} {noun}"
    at_most = f"largest divisor up to {values.shown('batchsize_conf.max_per_device_train_batch_size')}"
    per_device, per_device_eval = "per_device_train_batch_size", "per_device_eval_batch_size"
    values.set(f"training_args.{per_device}", size, f"{whole} = {size * steps}, {at_most}")
    values.set("training_args.gradient_accumulation_steps", steps, f"{whole} / {size} a device")
    eval_size = values[f"batchsize_conf.{per_device_eval}"]
    text = per_device if eval_size is None else values.origin(f"batchsize_conf.{per_device_eval}").text
    values.set(f"training_args.{per_device_eval}", eval_size or size, text)


def scaled_learning_rate(values: Values) -> float:
    """Return the learning rate with `overrides`: lr_multiplier, then a factor from the total batch size."""
    total = values["batchsize_conf.total_train_batch_size"]
    factor = {"none": 1, "sqrt": sqrt(total), "linear": total}[values["overrides.lr_batch_size_scaling"]]
    rate: float = float(values["training_args.learning_rate"]) * values["overrides.lr_multiplier"] * factor
    return rate


def learning_rate(values: Values) -> None:
    """Apply `overrides` to the learning rate."""
    multiplier = values["overrides.lr_multiplier"]
    scaling = values["overrides.lr_batch_size_scaling"]
    total = values["batchsize_conf.total_train_batch_size"]
    factors = [f"× {values.shown('overrides.lr_multiplier')}"] if multiplier != 1 else []
    if scaling != "none":
        factors.append(
            f"× {f'sqrt({total})' if scaling == 'sqrt' else total} (overrides.lr_batch_size_scaling)"
        )
    if not factors:
        return
    text = " ".join([values.shown("training_args.learning_rate"), *factors])
    values.set("training_args.learning_rate", scaled_learning_rate(values), text)


def data_types(values: Values) -> None:
    """Take the data type that belongs to the method."""
    kind = DATA_TYPES[values["method"]]
    for side in ("training_data", "validation_data"):
        if values[f"data_conf.{side}.data_type"] != kind:
            values.set(f"data_conf.{side}.data_type", kind, f"method {values['method']}")


def output_folders(values: Values) -> None:
    """Take a null output_dir as the default one."""
    if values["training_args.output_dir"] is None:
        values.set("training_args.output_dir", "./checkpoints", "null means ./checkpoints")


def dtype(values: Values) -> None:
    """`dtype` follows its older name `torch_dtype` where it is not set itself."""
    if values["run_conf.model_args.dtype"] is None:
        old = "run_conf.model_args.torch_dtype"
        values.set("run_conf.model_args.dtype", values[old], values.origin(old).text)


def device_map(values: Values) -> None:
    """One process spreads the model by "auto"; several load it on each process's own device."""
    if (
        values.is_written("run_conf.model_args.device_map")
        and values["run_conf.model_args.device_map"] is not None
    ):
        return
    if values["training_args.deepspeed"] is not None:
        values.set("run_conf.model_args.device_map", None, "DeepSpeed places the model")
    elif values.world_size > 1 or uses_fsdp(values):
        values.set("run_conf.model_args.device_map", None, "each process its own device")
    else:
        values.set("run_conf.model_args.device_map", "auto", "one process")


def safetensors(values: Values) -> None:
    """Weights come from safetensors files only, never from pickles."""
    if values["run_conf.model_args.use_safetensors"] is None:
        values.set("run_conf.model_args.use_safetensors", value=True, text="never pickled weights")


def checkpointing(values: Values) -> None:
    """`activation_checkpointing` follows its older name `gradient_checkpointing`, and the two stay equal."""
    for suffix in ("", "_kwargs"):
        new, old = (
            f"training_args.activation_checkpointing{suffix}",
            f"training_args.gradient_checkpointing{suffix}",
        )
        source, target = (old, new) if values[new] is None else (new, old)
        value = values[source] if suffix else bool(values[source])
        values.set(target, value, values.origin(source).text)


def torch_compile(values: Values) -> None:
    """Turn compilation on where a backend or a mode is set, as TrainingArguments does."""
    for key in ("torch_compile_backend", "torch_compile_mode"):
        if values[f"training_args.{key}"] is not None and not values["training_args.torch_compile"]:
            values.set("training_args.torch_compile", value=True, text=f"{key} is set")


def full_determinism(values: Values) -> None:
    if values["run_conf.determinism"] == "full":
        text = f"determinism: {values.shown('run_conf.determinism')}"
        values.set("training_args.full_determinism", value=True, text=text)


def report_to(values: Values) -> None:
    """No tracker is the list's own word "none"; with a tracking section MLflow joins."""
    names = values["training_args.report_to"]
    names = [names] if isinstance(names, str) else names or []
    listed = [name for name in names if name != "none"]
    if values["tracking"] is not None and not {"mlflow", "all"} & set(listed):
        values.set("training_args.report_to", [*listed, "mlflow"], "tracking is set")
    elif not listed and values["training_args.report_to"] != "none":
        values.set("training_args.report_to", "none", "nothing to report to")


def quant_storage(values: Values) -> None:
    """FSDP and ZeRO 3 shard 4-bit weights only when they are stored in the type that is computed in."""
    sharded = shards_parameters(values)
    if values.bit_widths() != [4] or not sharded:
        return
    if values["quant_conf.bnb_4bit_quant_storage"] is None:
        text = f"{sharded} with 4-bit weights"
        values.set("quant_conf.bnb_4bit_quant_storage", compute_type(values), text)


def deepspeed_sizes(values: Values) -> dict[str, int]:
    """Return what a DeepSpeed config says about batch sizes, in its own words."""
    size, steps = split_batch(values)
    return {
        "train_micro_batch_size_per_gpu": size,
        "train_batch_size": values["batchsize_conf.total_train_batch_size"],
        "gradient_accumulation_steps": steps,
    }


def deepspeed_batches(values: Values) -> None:
    """Write the batch sizes into an inline DeepSpeed config."""
    config = values["training_args.deepspeed"]
    if isinstance(config, dict):
        merged = {**config, **deepspeed_sizes(values)}
        section = "launch.strategy, " if strategy(values) else ""
        values.set("training_args.deepspeed", merged, f"{section}batch sizes of batchsize_conf")


DERIVATIONS = (
    strategy_arguments,
    batch_sizes,
    learning_rate,
    data_types,
    output_folders,
    dtype,
    device_map,
    safetensors,
    checkpointing,
    torch_compile,
    full_determinism,
    report_to,
    quant_storage,
    deepspeed_batches,
)
