"""Whether a run may go on from a checkpoint: in what is trained, its config must be the checkpoint's."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import groupby
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.difference import ABSENT, compare, named
from silogen_compiler.load import dotted
from silogen_compiler.lock import data_files, file_hash

from silogen_runtime.records import CONFIG, LOCK, VERSIONS, installed_versions, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from silogen_compiler.difference import Change

Resolved = dict[str, Any]
Found = tuple[str, str]  # what to say of a difference, and its effect

LONGEST = 60  # characters of a value in a finding
MOST = 8  # differences that are listed

# What a difference does to a run that goes on.
NOTHING = ""
ROUNDING = "the run ends in slightly other weights"
SCHEDULE = "from here on the learning rate follows the schedule of the new length"
MIXED = "the steps so far were trained with the old value"
HELD = "the optimizer in the checkpoint keeps the old value"
UNLIKE = "the optimizer in the checkpoint is of the old kind"
OTHER = "the checkpoint holds other weights"
LAYOUT = "the checkpoint is laid out for the old value"
BEST = "the best model is sought from here on, since the old value chose the one so far"

# MIXED is refused unless it is allowed, and what can't work always.
OF_OPTIMIZER = {HELD, UNLIKE}
NEVER = {*OF_OPTIMIZER, OTHER, LAYOUT}

# By the names of keys, of which `*` is any end; the first row that fits. MIXED where none does.
ARGUMENTS = (
    (SCHEDULE, "num_train_epochs max_steps"),
    (HELD, "learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon optim_args"),
    (UNLIKE, "optim optim_target_modules"),
    (LAYOUT, "deepspeed.zero_optimization.stage"),
    # An evaluation draws a random number, and dropout draws the next ones.
    (ROUNDING, "eval_strategy eval_steps eval_delay eval_on_start"),
    (
        ROUNDING,
        "activation_checkpointing* activation_offloading gradient_checkpointing* full_determinism tf32",
    ),
    (ROUNDING, "torch_compile* use_cpu use_liger_kernel liger_kernel_config* precompute_ref_log_probs"),
    (NOTHING, "eval_* per_device_eval_batch_size batch_eval_metrics bf16_full_eval fp16_full_eval include_*"),
    (NOTHING, "prediction_loss_only load_best_model_at_end greater_is_better metric_for_best_model"),
    (NOTHING, "dataloader_num_workers dataloader_multiprocessing_context dataloader_p* dataset_num_proc"),
    (NOTHING, "ddp_* local_rank precompute_ref_batch_size torch_empty_cache_steps use_cache"),
    (
        NOTHING,
        "logging_* log_* report_to* run_name project trackio_* disable_tqdm debug* skip_memory_metrics",
    ),
    (NOTHING, "save_* output_dir hub_* push_to_hub do_* enable_jit_checkpoint"),
)
LOADING = (
    (NOTHING, "cache_dir device_map* force_download local_files_only max_memory* offload_* proxies* token"),
    (NOTHING, "use_cache use_safetensors"),
    (ROUNDING, "attn_implementation use_kernels"),
)
# Where a trained weight has gone or got another shape, PEFT fails, or starts it anew without a word.
ADAPTER = (
    (MIXED, "pretrained* kwargs.alpha* kwargs.lora_alpha kwargs.use_rslora kwargs.*dropout"),
    (OTHER, "*"),
)
ELSEWHERE = (
    (ROUNDING, "target.* run.determinism"),
    (NOTHING, "run.* tracking* trainer.environment*"),
    (NOTHING, "launch.rdzv_* launch.nodes launch.processes_per_node"),
)
TABLES = {
    "trainer.args.": ARGUMENTS,
    "model.from_pretrained.": LOADING,
    "tokenizer.from_pretrained.": LOADING,
    "peft.": ADAPTER,
    "": ELSEWHERE,
}

# How a batch is shared out; with the same total batch size these only round.
SHARES = {
    "launch.world_size",
    "launch.strategy",
    "trainer.args.per_device_train_batch_size",
    "trainer.args.gradient_accumulation_steps",
}
UNSHARDED = {"single", "ddp"}

# What chooses the best model.
CHOOSES_BEST = (
    "trainer.args.metric_for_best_model",
    "trainer.args.greater_is_better",
    "trainer.args.load_best_model_at_end",
)


def check_resumed(resolved: Resolved, checkpoint: Path, *, allow_changes: bool = False) -> list[Diagnostic]:
    """Return what differs from the config, the data and the versions that a checkpoint was trained with.

    What the weights would be a mixture of is an error, or with `allow_changes` a warning. A checkpoint that
    no run of silogen wrote has nothing to compare with.
    """
    earlier = read_record(checkpoint, CONFIG)
    if not earlier:
        return []
    found = [
        *_other_values(earlier, resolved),
        *_other_files(checkpoint, resolved),
        *_other_versions(checkpoint),
    ]
    refused = NEVER if allow_changes else {*NEVER, MIXED}
    errors = [(text, effect) for text, effect in found if effect in refused]
    warnings = [(text, effect) for text, effect in found if effect and effect not in refused]
    return [*_errors(errors, checkpoint), *_warnings(warnings, checkpoint)]


def forgets_best(resolved: Resolved, checkpoint: Path | None) -> bool:
    """Tell whether the best model so far, of which the checkpoint knows, was chosen by another metric."""
    earlier = read_record(checkpoint, CONFIG) if checkpoint else {}
    return bool(earlier) and _finds_another_best(earlier, resolved)


def _finds_another_best(earlier: Resolved, resolved: Resolved) -> bool:
    before, now = _best_metric(earlier), _best_metric(resolved)
    return None not in {before, now} and before != now


def _best_metric(resolved: Resolved) -> tuple[str, bool] | None:
    """Return what transformers compares checkpoints by, if it does, and whether more is better."""
    args = resolved["trainer"]["args"]
    needs_one = args.get("load_best_model_at_end") or args["lr_scheduler_type"] == "reduce_lr_on_plateau"
    metric = args.get("metric_for_best_model") or ("loss" if needs_one else None)
    if metric is None:
        return None
    greater = args.get("greater_is_better")
    return metric.removeprefix("eval_"), not metric.endswith("loss") if greater is None else greater


def _other_values(earlier: Resolved, resolved: Resolved) -> Iterator[Found]:
    instead = dict(_special_effects(earlier, resolved))
    for change in compare(earlier, resolved).changes:
        key = dotted(change.path)
        effect = instead.get(key, _effect(key))
        yield _described(change), instead.get(effect, effect)


def _special_effects(earlier: Resolved, resolved: Resolved) -> Iterator[tuple[str, str]]:
    """Yield keys and effects with the effect that they have instead between these two configs."""
    if _layout(earlier) != _layout(resolved):
        yield from dict.fromkeys(("launch.strategy", "launch.world_size"), LAYOUT).items()
    elif _total_batch(earlier) == _total_batch(resolved):
        yield from dict.fromkeys(SHARES, ROUNDING).items()
    if resolved["trainer"]["args"]["lr_scheduler_type"] == "constant":
        yield SCHEDULE, NOTHING
    if _finds_another_best(earlier, resolved):
        yield from dict.fromkeys(CHOOSES_BEST, BEST).items()
    if earlier["trainer"]["args"].get("save_only_model"):
        yield from dict.fromkeys(OF_OPTIMIZER, MIXED).items()


def _other_files(checkpoint: Path, resolved: Resolved) -> Iterator[Found]:
    """Yield the files of data that hold something else than when the checkpoint's run began."""
    before = read_record(checkpoint, LOCK).get("files", {})
    for name in sorted({*data_files(resolved)}):
        if before.get(name) and before[name] != file_hash(name, lambda _: None):
            yield f"`{name}` holds other data", MIXED


def _other_versions(checkpoint: Path) -> Iterator[Found]:
    before, now = read_record(checkpoint, VERSIONS), installed_versions()
    for name in sorted({*before} & {*now}):
        if before[name] != now[name]:
            yield f"{name} was {before[name]}, is {now[name]}", ROUNDING


def _effect(key: str) -> str:
    prefix = next(prefix for prefix in TABLES if key.startswith(prefix))
    name = key.removeprefix(prefix)
    rows = ((effect, each) for effect, names in TABLES[prefix] for each in names.split())
    return next((effect for effect, each in rows if fnmatchcase(name, each)), MIXED)


def _total_batch(resolved: Resolved) -> int:
    launch, args = resolved["launch"], resolved["trainer"]["args"]
    per_device: int = args["per_device_train_batch_size"] * args["gradient_accumulation_steps"]
    return per_device * int(launch["world_size"])


def _layout(resolved: Resolved) -> str:
    """Return how checkpoints are laid out: by the strategy, and DeepSpeed's for one number of processes."""
    strategy, world_size = resolved["launch"]["strategy"], resolved["launch"]["world_size"]
    if strategy in UNSHARDED:
        return ""
    return f"{strategy} {world_size}" if strategy == "deepspeed" else str(strategy)


def _described(change: Change) -> str:
    name, before, after = named(change, LONGEST)
    if change.before is ABSENT:
        return f"`{name}` is {after}, and was not there"
    if change.after is ABSENT:
        return f"`{name}` was {before}, and is not there any more"
    return f"`{name}` was {before}, is {after}"


def _errors(found: list[Found], checkpoint: Path) -> Iterator[Diagnostic]:
    texts = [f"{text}: {effect}" for text, effect in found[:MOST]]
    if len(found) > MOST:
        texts.append(f"{len(found) - MOST} more values differ: `silogen diff {checkpoint} CONFIG` lists them")
    for text in texts:
        help_text = _remedy(found, checkpoint) if text is texts[-1] else ""
        yield Diagnostic("SG760", f"can't resume from `{checkpoint}`: {text}", help=help_text)


def _remedy(found: list[Found], checkpoint: Path) -> str:
    anew = "change it back, or start anew with another `output_dir`"
    effects = {effect for _, effect in found} & NEVER
    if not effects:
        return f"{anew}; `silogen train --allow-changes` goes on with the new values"
    if effects <= OF_OPTIMIZER:
        return f"{anew}; a new run can take the weights up: name `{checkpoint}` as model, or as adapter"
    return anew


def _warnings(found: list[Found], checkpoint: Path) -> Iterator[Diagnostic]:
    """Yield one warning for each effect, with all differences that have it."""
    for effect, group in groupby(sorted(found, key=lambda item: item[1]), key=lambda item: item[1]):
        texts = [text for text, _ in group]
        more = [f"{len(texts) - MOST} more"] if len(texts) > MOST else []
        listed = "; ".join([*texts[:MOST], *more])
        yield Diagnostic("SG761", f"resumed from `{checkpoint}` with changes: {listed}", help=effect)
