"""Stage 4, second half: what JSON Schema cannot say, one function a rule."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Findings, removal
from silogen_compiler.resolve import DATA_TYPES, largest_divisor, scaled_learning_rate
from silogen_compiler.rules.launch import LAUNCH_RULES
from silogen_compiler.rules.secrets import no_secrets
from silogen_compiler.rules.training import TRAINING_RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.values import Values


def check_rules(values: Values) -> list[Diagnostic]:
    """Return the findings of all rules; a rule that needs a wrong or missing value has nothing to say."""
    found: list[Diagnostic] = []
    for rule in RULES:
        try:
            found += rule(values)
        except KeyError:
            if not values.has_gaps:
                raise
    return found


def divisible_batch(values: Values) -> Findings:
    total, processes = values["batchsize_conf.total_train_batch_size"], values.world_size
    if total % processes:
        below, above = total - total % processes, total + processes - total % processes
        near = f"{below} or {above}" if below else f"{above}"
        message = f"a total batch of {total} does not divide among {processes} processes"
        yield Diagnostic(
            "SG301", message, values.span("batchsize_conf.total_train_batch_size"), f"write {near}"
        )


def small_device_batch(values: Values) -> Findings:
    total = values["batchsize_conf.total_train_batch_size"]
    limit = values["batchsize_conf.max_per_device_train_batch_size"]
    share = total // values.world_size
    if not share or total % values.world_size:
        return
    size = largest_divisor(share, limit)
    if size * 2 <= min(limit, share):
        message = f"only {size} of up to {limit} examples fit a device's batch: {share} has no larger divisor"
        label = f"{share // size} steps of accumulation; a total with more divisors trains faster"
        yield Diagnostic("SG302", message, values.span("batchsize_conf.total_train_batch_size"), label)


def one_half_precision(values: Values) -> Findings:
    for suffix in ("", "_full_eval"):
        bf16, fp16 = f"training_args.bf16{suffix}", f"training_args.fp16{suffix}"
        if values[bf16] and values[fp16]:
            message = f"`bf16{suffix}` and `fp16{suffix}` are both true"
            label = "keep bf16 on GPUs from Ampere on"
            yield Diagnostic("SG303", message, values.span(fp16), label, notes=values.also(bf16))


def one_bit_width(values: Values) -> Findings:
    if len(values.bit_widths()) > 1:
        note = values.also("quant_conf.load_in_4bit")
        message = "`load_in_4bit` and `load_in_8bit` are both true"
        yield Diagnostic(
            "SG304",
            message,
            values.span("quant_conf.load_in_8bit"),
            "write false for one of them",
            notes=note,
        )


def some_bit_width(values: Values) -> Findings:
    if values["quant_conf.quantization_type"] != "bits-and-bytes":
        return
    if not values["quant_conf.load_in_4bit"] and not values["quant_conf.load_in_8bit"]:
        message = "nothing is quantized: neither `load_in_4bit` nor `load_in_8bit` is true"
        label = "set one of them, or remove `quant_conf`"
        yield Diagnostic("SG305", message, values.span("quant_conf.quantization_type"), label)


def quantized_needs_adapter(values: Values) -> Findings:
    if values.bit_widths() and values["peft_conf.peft_type"] == "NO_PEFT":
        message = "quantized weights cannot be trained themselves"
        label = "choose an adapter, such as LORA"
        note = values.also(f"quant_conf.load_in_{values.bit_widths()[0]}bit")
        yield Diagnostic("SG306", message, values.span("peft_conf.peft_type"), label, notes=note)


def evaluation_needs_data(values: Values) -> Findings:
    no_data = values["data_conf.validation_data.type"] == "NONE"
    strategy, on_start = values["training_args.eval_strategy"], values["training_args.eval_on_start"]
    if no_data and (strategy != "no" or on_start):
        key = "eval_strategy" if strategy != "no" else "eval_on_start"
        message = f"`{key}` asks for evaluation, but there are no validation data"
        label = "set `data_conf.validation_data.type: AUTO_SPLIT`, or evaluate never"
        note = values.also("data_conf.validation_data.type")
        yield Diagnostic("SG307", message, values.span(f"training_args.{key}"), label, notes=note)


def data_need_evaluation(values: Values) -> Findings:
    kind = values["data_conf.validation_data.type"]
    never = values["training_args.eval_strategy"] == "no" and not values["training_args.eval_on_start"]
    if kind != "NONE" and never:
        message = "the validation data are never used"
        label = "set `training_args.eval_strategy`, or write type NONE"
        yield Diagnostic("SG308", message, values.span("data_conf.validation_data.type"), label)


def best_model_needs_saves(values: Values) -> Findings:
    """Refuse saved steps that are not evaluated: checkpoints are compared by their evaluation."""
    if not values["training_args.load_best_model_at_end"]:
        return
    evaluate, save = values["training_args.eval_strategy"], values["training_args.save_strategy"]
    span = values.span("training_args.load_best_model_at_end")
    if save == "best" and evaluate != "no":
        return
    if evaluate != save or save == "no":
        message = f"`load_best_model_at_end` needs equal strategies: `eval_strategy` is {evaluate}"
        message += f" and `save_strategy` is {save}"
        label = f"write `save_strategy: {evaluate}`" if evaluate != "no" else "set both to steps or epoch"
        yield Diagnostic("SG309", message, span, label, notes=values.also("training_args.save_strategy"))
        return
    steps = values["training_args.eval_steps"] or values["training_args.logging_steps"]
    saves = values["training_args.save_steps"]
    if save == "steps" and (steps < 1) == (saves < 1) and not _is_multiple(saves, steps):
        message = "`load_best_model_at_end` needs `save_steps` to be a multiple of `eval_steps`"
        message += f", and {saves:g} is no multiple of {steps:g}"
        label = f"write `save_steps: {steps * max(round(saves / steps), 1):g}`"
        yield Diagnostic("SG309", message, span, label, notes=values.also("training_args.save_steps"))


def _is_multiple(number: float, unit: float) -> bool:
    ratio = number / unit
    return abs(ratio - round(ratio)) < 1e-9 and round(ratio) >= 1  # noqa: PLR2004 - rounding of decimal shares


def all_trackers_need_tracking(values: Values) -> Findings:
    if "all" in (values["training_args.report_to"] or []) and values["tracking"] is None:
        message = "`report_to: all` includes MLflow, but there is no `tracking` section"
        label = "name the trackers, add `tracking`, or set MLFLOW_TRACKING_URI"
        yield Diagnostic("SG310", message, values.span("training_args.report_to"), label)


def one_device_map_a_process(values: Values) -> Findings:
    device_map = values["run_conf.model_args.device_map"]
    written = values.is_written("run_conf.model_args.device_map")
    if written and device_map is not None and values.world_size > 1:
        message = f"a device map cannot be shared by {values.world_size} processes"
        label = "remove it: each process uses its own device"
        key = "run_conf.model_args.device_map"
        yield Diagnostic("SG311", message, values.span(key), label, fix=removal(key, is_safe=False))


def one_dtype(values: Values) -> Findings:
    new, old = values["run_conf.model_args.dtype"], values["run_conf.model_args.torch_dtype"]
    if new is not None and values.is_written("run_conf.model_args.torch_dtype") and new != old:
        message = f"`dtype` is {new}, but its older name `torch_dtype` is {old}"
        note = values.also("run_conf.model_args.dtype")
        key = "run_conf.model_args.torch_dtype"
        fix = removal(key, is_safe=False)
        yield Diagnostic("SG312", message, values.span(key), "remove it", notes=note, fix=fix)


def data_type_follows_method(values: Values) -> Findings:
    for side in ("training_data", "validation_data"):
        kind = values[f"data_conf.{side}.data_type"]
        right = DATA_TYPES[values["method"]]
        if kind != right and values.is_written(f"data_conf.{side}.data_type"):
            message = f"`data_type` is {kind}, but method {values['method']} reads {right}"
            key = f"data_conf.{side}.data_type"
            yield Diagnostic("SG314", message, values.span(key), "remove it", fix=removal(key))


def remote_code(values: Values) -> Findings:
    if values["run_conf.model_args.trust_remote_code"]:
        message = "`trust_remote_code` runs Python code that comes with the model"
        yield Diagnostic(
            "SG315",
            message,
            values.span("run_conf.model_args.trust_remote_code"),
            "keep this only if you trust its authors",
        )


def some_weight(values: Values) -> Findings:
    data = values["data_conf.training_data"]
    if data["type"] == "PRECOMPUTE_WEIGHTED_MIX" and not any(d["sampling_weight"] for d in data["datasets"]):
        span = values.span("data_conf.training_data.datasets")
        yield Diagnostic(
            "SG316",
            "every `sampling_weight` is 0, so there is nothing to train on",
            span,
            "give one of them a weight above 0",
        )


def steps_or_epochs(values: Values) -> Findings:
    both = all(values.is_written(f"training_args.{key}") for key in ("max_steps", "num_train_epochs"))
    if both and values["training_args.max_steps"] > 0:
        message = "`num_train_epochs` has no effect beside `max_steps`"
        key, note = "training_args.num_train_epochs", values.also("training_args.max_steps")
        fix = removal(key) if values.is_default(key) else None
        yield Diagnostic("SG317", message, values.span(key), "remove one of them", notes=note, fix=fix)


def no_adapter_on_output(values: Values) -> Findings:
    """TRL 1.16 refuses such a model when the trainer is built."""
    modules = values["peft_conf"].get("peft_kwargs", {}).get("target_modules")
    if isinstance(modules, list) and "lm_head" in modules:
        message = "an adapter on `lm_head` would never be trained"
        label = "remove lm_head; `modules_to_save: [lm_head]` trains it as a whole"
        yield Diagnostic("SG503", message, values.span("peft_conf.peft_kwargs.target_modules"), label)


def names_differ(values: Values) -> Findings:
    final, grown = "run_conf.final_checkpoint_name", "sft_args.save_name_if_new_basemodel"
    if values["method"] == "sft" and values[final] == values[grown]:
        message = f"the trained model and a grown base model would both be saved as `{values[final]}`"
        yield Diagnostic("SG318", message, values.span(grown), "write another name", notes=values.also(final))


def finite_learning_rate(values: Values) -> Findings:
    rate = scaled_learning_rate(values)
    if not isfinite(rate):
        span = values.span("training_args.learning_rate")
        message = "with the factors of `overrides` the learning rate is infinite"
        yield Diagnostic("SG319", message, span, "lower it, or `overrides.lr_multiplier`")


RULES: tuple[Callable[[Values], Findings], ...] = (
    divisible_batch,
    small_device_batch,
    one_half_precision,
    one_bit_width,
    some_bit_width,
    quantized_needs_adapter,
    evaluation_needs_data,
    data_need_evaluation,
    best_model_needs_saves,
    all_trackers_need_tracking,
    one_device_map_a_process,
    one_dtype,
    no_secrets,
    data_type_follows_method,
    remote_code,
    some_weight,
    steps_or_epochs,
    no_adapter_on_output,
    names_differ,
    finite_learning_rate,
    *TRAINING_RULES,
    *LAUNCH_RULES,
)
