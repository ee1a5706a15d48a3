"""Rules for general.py: what transformers' trainer, its optimizers and its schedulers ask for."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Findings
from silogen_compiler.resolve import deepspeed_sizes, scaled_learning_rate
from silogen_compiler.rules.contradictions import CONTRADICTIONS
from silogen_compiler.rules.dpo import dpo_settings
from silogen_compiler.rules.peft import PEFT_RULES, checkpointing_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.values import Values

ATTENTION = "run_conf.model_args.attn_implementation"
ATTENTION_NAMES = [
    "eager",
    "sdpa",
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_4",
    "flex_attention",
]
# A repository of kernels, as transformers 5.23 recognizes one: owner/name@revision:function.
KERNEL = re.compile(r"[^/:]+/[^/:]+(@[^/:]+)?(:[^/:]+)?")

# Adapters and optimizers that train with the learning rates of full training. Others take higher ones.
USUAL_ADAPTERS = {"NO_PEFT", "LORA", "ADALORA", "LOHA", "LOKR", "GRALORA", "HIRA", "MISS", "OFT", "BOFT"}
USUAL_OPTIMIZERS = ("adam", "paged_adam", "lion", "paged_lion")
HIGHEST_USUAL_RATE, HIGHEST_RATE, LOWEST_RATE = 1e-2, 1, 1e-7

# Optimizers in 32 bits that have another name where they are not paged.
PLAIN_OPTIMIZERS = {"adamw_32bit": "adamw_torch", "ademamix_32bit": "ademamix"}

# Schedulers that follow the results of the evaluation.
FOLLOW_EVALUATION = {"reduce_lr_on_plateau", "greedy"}
WITHOUT_WARMUP = {"constant", *FOLLOW_EVALUATION}
# Settings of `lr_scheduler_kwargs` of which each scheduler needs exactly one.
SCHEDULER_NEEDS: dict[str, dict[str, float]] = {
    "cosine_with_min_lr": {"min_lr_rate": 0.1, "min_lr": 1e-6},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1, "min_lr": 1e-6},
    "warmup_stable_decay": {"num_decay_steps": 200},
}

WORKER_SETTINGS = (
    "dataloader_prefetch_factor",
    "dataloader_persistent_workers",
    "dataloader_multiprocessing_context",
)


def no_cache_with_checkpointing(values: Values) -> Findings:
    checkpointing = checkpointing_key(values)
    for key in ("run_conf.model_args.use_cache", "training_args.use_cache"):
        if checkpointing and values.is_written(key) and values[key]:
            name = checkpointing.rpartition(".")[2]
            message = f"`use_cache` has no effect on training with `{name}`, which turns it off"
            note = values.also(checkpointing)
            yield Diagnostic("SG330", message, values.span(key), "remove it", notes=note)


def known_attention(values: Values) -> Findings:
    name = values[ATTENTION]
    bare = "sdpa" if name is None else name.removeprefix("paged|")
    if bare not in ATTENTION_NAMES and not KERNEL.fullmatch(bare):
        from silogen_compiler.hints import suggest_value  # noqa: PLC0415 - start-up time

        message = f"there is no attention implementation `{name}`"
        label = suggest_value(bare, ATTENTION_NAMES) or f"one of {', '.join(ATTENTION_NAMES)}"
        yield Diagnostic("SG331", message, values.span(ATTENTION), label)


def deepspeed_takes_batch_sizes(values: Values) -> Findings:
    config = values["training_args.deepspeed"]
    if not isinstance(config, dict) or values["batchsize_conf.total_train_batch_size"] % values.world_size:
        return
    for key, size in deepspeed_sizes(values).items():
        if config.get(key, "auto") not in ("auto", size):
            message = f"`{key}` is replaced by {size}, which follows from `batchsize_conf`"
            span = values.span(f"training_args.deepspeed.{key}")
            yield Diagnostic("SG332", message, span, "remove it, or write auto")


def paged_optimizer_needs_gpu(values: Values) -> Findings:
    optimizer = values["training_args.optim"]
    if values["training_args.use_cpu"] and optimizer.startswith("paged_"):
        message = "a CPU has no pages to move, so bitsandbytes takes the optimizer without them"
        plain = optimizer.removeprefix("paged_")
        label = f"write `{PLAIN_OPTIMIZERS.get(plain, plain)}`"
        note = values.also("training_args.use_cpu")
        yield Diagnostic("SG333", message, values.span("training_args.optim"), label, notes=note)


def low_rank_optimizer_needs_targets(values: Values) -> Findings:
    optimizer = values["training_args.optim"]
    if optimizer.startswith(("galore_", "apollo_")) and values["training_args.optim_target_modules"] is None:
        message = f"`{optimizer}` needs `optim_target_modules`"
        label = "add `optim_target_modules: all-linear`, or a list of names"
        yield Diagnostic("SG334", message, values.span("training_args.optim"), label)


def resume_needs_optimizer(values: Values) -> Findings:
    resume = "run_conf.resume_from_checkpoint"
    if values["training_args.save_only_model"] and values[resume]:
        message = "a run that resumes starts with an empty optimizer: `save_only_model` leaves it out"
        span = values.span("training_args.save_only_model")
        yield Diagnostic("SG336", message, span, "write false", notes=values.also(resume))


def plausible_learning_rate(values: Values) -> Findings:
    rate = scaled_learning_rate(values)
    usual = values["peft_conf.peft_type"] in USUAL_ADAPTERS
    usual = usual and values["training_args.optim"].startswith(USUAL_OPTIMIZERS)
    highest = HIGHEST_USUAL_RATE if usual else HIGHEST_RATE
    if rate == 0 or LOWEST_RATE <= rate <= highest or not isfinite(rate):
        return
    scaled = rate != values["training_args.learning_rate"]
    subject = "with `overrides` the learning rate" if scaled else "the learning rate"
    usually = f"it is rarely above {highest:g}" if rate > highest else f"it is rarely below {LOWEST_RATE:g}"
    label = f"check the {'factors' if scaled else 'exponent'}: {usually}"
    key = "overrides" if scaled else "training_args.learning_rate"
    note = values.also("training_args.learning_rate") if scaled else ()
    yield Diagnostic("SG337", f"{subject} is {rate:g}", values.span(key), label, notes=note)


def scheduler_settings(values: Values) -> Findings:
    name, kwargs = values["training_args.lr_scheduler_type"], _scheduler_kwargs(values)
    needs = SCHEDULER_NEEDS.get(name, {})
    given = [key for key in needs if kwargs.get(key) is not None]
    if len(given) == 1 or not needs:
        return
    span = values.span("training_args.lr_scheduler_type")
    if given:
        yield Diagnostic("SG338", f"`{name}` takes either `{given[0]}` or `{given[1]}`", span, "remove one")
    else:
        wanted = " or ".join(f"`{key}`" for key in needs)
        key, value = next(iter(needs.items()))
        label = f"add `lr_scheduler_kwargs: {{{key}: {value}}}`"
        yield Diagnostic("SG338", f"`{name}` needs {wanted} in `lr_scheduler_kwargs`", span, label)


def _scheduler_kwargs(values: Values) -> dict[str, Any]:
    """Return `lr_scheduler_kwargs`, which may be JSON text; `{}` where it is none."""
    kwargs = values["training_args.lr_scheduler_kwargs"]
    try:
        kwargs = json.loads(kwargs) if isinstance(kwargs, str) else kwargs
    except ValueError:
        return {}
    return kwargs if isinstance(kwargs, dict) else {}


def scheduler_needs_evaluation(values: Values) -> Findings:
    name = values["training_args.lr_scheduler_type"]
    if name in FOLLOW_EVALUATION and values["training_args.eval_strategy"] == "no":
        message = f"`{name}` follows the evaluation, which is never done"
        span = values.span("training_args.lr_scheduler_type")
        yield Diagnostic("SG338", message, span, "set `eval_strategy`")


def workers_for_worker_settings(values: Values) -> Findings:
    for key in WORKER_SETTINGS:
        if values[f"training_args.{key}"] and values["training_args.dataloader_num_workers"] == 0:
            label = "set `dataloader_num_workers`, or remove it"
            span = values.span(f"training_args.{key}")
            yield Diagnostic("SG339", f"`{key}` needs worker processes", span, label)


def backend_needs_processes(values: Values) -> Findings:
    backend = values["training_args.ddp_backend"]
    if backend is not None and values.world_size == 1:
        message = f"`ddp_backend: {backend}` needs several processes, and this run has one"
        yield Diagnostic("SG346", message, values.span("training_args.ddp_backend"), "remove it")


def best_model_settings_used(values: Values) -> Findings:
    """Without these uses, transformers only writes the best result into trainer_state.json."""
    args = values["training_args"]
    kept = args["load_best_model_at_end"] or args["save_total_limit"] or args["save_strategy"] == "best"
    if kept or args["lr_scheduler_type"] in FOLLOW_EVALUATION:
        return
    for key in ("metric_for_best_model", "greater_is_better"):
        if args[key] is not None:
            message = f"`{key}` has no effect: no best checkpoint is kept or loaded"
            label = "set `load_best_model_at_end: true`, or remove it"
            yield Diagnostic("SG347", message, values.span(f"training_args.{key}"), label)


def fixed_batch_size(values: Values) -> Findings:
    if values["training_args.auto_find_batch_size"]:
        total = values["batchsize_conf.total_train_batch_size"]
        message = f"after `auto_find_batch_size` shrinks a batch, the total is no longer {total}"
        label = "remove it, and lower `max_per_device_train_batch_size` if memory runs out"
        yield Diagnostic("SG348", message, values.span("training_args.auto_find_batch_size"), label)


def warmup_ends(values: Values) -> Findings:
    warmup, steps = values["training_args.warmup_steps"], values["training_args.max_steps"]
    if 0 < steps <= warmup and values["training_args.lr_scheduler_type"] not in WITHOUT_WARMUP:
        message = f"the warmup of {warmup} steps is as long as the training"
        label = "fewer steps, or a share of them such as 0.03"
        span, note = values.span("training_args.warmup_steps"), values.also("training_args.max_steps")
        yield Diagnostic("SG349", message, span, label, notes=note)


def whole_steps(values: Values) -> Findings:
    """Refuse part of a step. transformers refuses it too, except for the warmup, which it rounds down."""
    for key in ("logging_steps", "save_steps", "eval_steps", "warmup_steps"):
        steps = values[f"training_args.{key}"] or 0
        if steps > 1 and steps != int(steps):
            message = f"`{key}` is {steps}, and there is no part of a step"
            label = f"write {int(steps)} or {int(steps) + 1}, or a share of all steps below 1"
            yield Diagnostic("SG352", message, values.span(f"training_args.{key}"), label)


TRAINING_RULES: tuple[Callable[[Values], Findings], ...] = (
    no_cache_with_checkpointing,
    known_attention,
    deepspeed_takes_batch_sizes,
    paged_optimizer_needs_gpu,
    low_rank_optimizer_needs_targets,
    *PEFT_RULES,
    resume_needs_optimizer,
    plausible_learning_rate,
    scheduler_settings,
    scheduler_needs_evaluation,
    workers_for_worker_settings,
    backend_needs_processes,
    best_model_settings_used,
    fixed_batch_size,
    warmup_ends,
    whole_steps,
    dpo_settings,
    *CONTRADICTIONS,
)
