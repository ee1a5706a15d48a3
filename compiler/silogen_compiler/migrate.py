"""Stage 3: keys of older library versions become today's, each with a warning that says what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, Edit, Fix, Note, Span
from silogen_compiler.emit import as_yaml
from silogen_compiler.load import Layer, Mark, Path, key_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from silogen_compiler.targets import Target

Section = dict[str, Any]


class Migration(NamedTuple):
    """One older key of `training_args`.

    `convert` takes its value and returns the key to write in its place, `{}` where it has no effect today,
    or None where it asked for something that is gone. `gone` and `idle` are the labels of the last two.
    """

    old: str
    convert: Callable[[Any], Section | None]
    gone: str = ""
    idle: str = "remove it: this was the default"


def _renamed(old: str, new: str) -> Migration:
    return Migration(old, lambda value: {} if value is None else {new: value})


def _switch(old: str, new: str, value: Any) -> Migration:
    return Migration(old, lambda on: {new: value} if on else {})


def _no_effect(old: str, reason: str) -> Migration:
    return Migration(old, lambda _: {}, idle=f"remove it: {reason}")


def _gone(old: str, default: Any, reason: str) -> Migration:
    return Migration(old, lambda value: {} if value in (default, None) else None, reason)


def _warmup(ratio: Any) -> Section | None:
    """Turn a share of all steps into `warmup_steps`, where 1 would mean one step."""
    is_one = isinstance(ratio, (int, float)) and not isinstance(ratio, bool) and ratio == 1
    return None if is_one else {"warmup_steps": ratio}


def _fsdp(key: str) -> Callable[[Any], Section | None]:
    return lambda value: {"fsdp_config": {key: value}} if value else {}


MIGRATIONS = (
    _renamed("evaluation_strategy", "eval_strategy"),
    Migration("warmup_ratio", _warmup, "write `warmup_steps`: a number of steps, or a share of them below 1"),
    _renamed("no_cuda", "use_cpu"),
    _renamed("torchdynamo", "torch_compile_backend"),
    _renamed("push_to_hub_model_id", "hub_model_id"),
    _renamed("push_to_hub_token", "hub_token"),
    _gone("push_to_hub_organization", None, "write the owner in `hub_model_id`, before a slash"),
    _switch("group_by_length", "train_sampling_strategy", "group_by_length"),
    _switch("adafactor", "optim", "adafactor"),
    _switch("include_inputs_for_metrics", "include_for_metrics", ["inputs"]),
    Migration("fsdp_min_num_params", _fsdp("min_num_params")),
    Migration("fsdp_transformer_layer_cls_to_wrap", _fsdp("transformer_layer_cls_to_wrap")),
    _gone("per_gpu_train_batch_size", None, "set `max_per_device_train_batch_size` in `batchsize_conf`"),
    _gone("per_gpu_eval_batch_size", None, "set `per_device_eval_batch_size` in `batchsize_conf`"),
    _gone("save_safetensors", True, "remove it: checkpoints are always safetensors"),  # noqa: FBT003 - the old default
    _gone("jit_mode_eval", False, "remove it: transformers no longer traces models"),  # noqa: FBT003
    _gone("past_index", -1, "remove it: transformers no longer reads past states"),
    _gone("tpu_metrics_debug", False, "write `debug: tpu_metrics_debug`"),  # noqa: FBT003
    _gone("tp_size", 0, "set `run_conf.model_args.tp_size`"),
    _gone("use_ipex", False, "remove it: PyTorch holds these optimizations itself today"),  # noqa: FBT003
    _no_effect("overwrite_output_dir", "`run_conf.resume_from_checkpoint` decides how a run starts"),
    _no_effect("include_tokens_per_second", "metrics.jsonl always holds tokens a second"),
    _no_effect("use_mps_device", "an Apple GPU is found by itself"),
    _no_effect("fp16_opt_level", "it belonged to Apex, which is gone"),
    _no_effect("half_precision_backend", "PyTorch's own mixed precision is the only one left"),
    _no_effect("fp16_backend", "PyTorch's own mixed precision is the only one left"),
    _no_effect("tpu_num_cores", "the launcher knows the number of cores"),
    _no_effect("use_legacy_prediction_loop", "the old loop no longer exists"),
    _no_effect("mp_parameters", "the trainer never read it"),
    _no_effect("ray_scope", "it belonged to hyperparameter search"),
    _gone("reference_free", False, "remove it: TRL no longer trains without a reference"),  # noqa: FBT003
    _gone("generate_during_eval", False, "remove it: TRL no longer generates while it evaluates"),  # noqa: FBT003
    _gone("max_completion_length", None, "set `max_length`"),
    _gone("max_target_length", None, "set `max_length`"),
    _gone("model_adapter_name", None, "remove it: TRL names the adapters itself"),
    _gone("ref_adapter_name", None, "remove it: TRL names the adapters itself"),
    _gone("tools", None, "write a `tools` column in the data"),
    _no_effect("force_use_ref_model", "silogen gives no reference of its own"),
    _no_effect("label_pad_token_id", "padding is always -100"),
    _no_effect("is_encoder_decoder", "it belonged to encoder-decoder models"),
    _no_effect("use_num_logits_to_keep", "TRL always computes the loss in pieces"),
    _no_effect("use_logits_to_keep", "TRL always computes the loss in pieces"),
    _no_effect("use_liger_loss", "TRL always computes the loss in pieces"),
    _no_effect("base_model_attribute_name", "it belonged to `use_liger_loss`"),
)


def migrate(layer: Layer, target: Target) -> tuple[Layer, list[Diagnostic]]:
    """Return the layer with today's keys, and a finding for each older key that the target does not know."""
    data = {**layer.data}
    args: Any = data.get("training_args")
    found: list[Diagnostic] = []
    layer = layer._replace(data=data)
    old = [migration for migration in MIGRATIONS if migration.old in args] if isinstance(args, dict) else []
    if old:
        data["training_args"] = {**args}
        layer = layer._replace(marks={**layer.marks})
        known = target.classes["DPOConfig" if data.get("method") == "dpo" else "SFTConfig"]
        for migration in old:
            finding = _apply(migration, layer, keep=migration.old in known)
            is_news = migration.old not in known or (finding and finding.code == "SG404")
            found += [finding] if finding and is_news else []
    _write_tags(layer)
    return layer, found


def _apply(migration: Migration, layer: Layer, *, keep: bool) -> Diagnostic | None:
    """Replace one older key in the layer and return what to say about it.

    Where nothing replaces the key, `keep` leaves it: the target takes it.
    """
    args: Section = layer.data["training_args"]
    path = ("training_args", migration.old)
    span = key_span(layer, path)
    value = args[migration.old]
    new = migration.convert(value)
    if not new and keep:
        return None
    del args[migration.old]
    if new is None:
        return Diagnostic("SG403", f"`{migration.old}` no longer exists", span, migration.gone)
    if not new:
        fix = Fix((Edit(path),))
        return Diagnostic("SG402", f"`{migration.old}` has no effect today", span, migration.idle, fix=fix)
    ((key, today),) = new.items()
    if _is_set(args, key, today):
        other = key_span(layer, ("training_args", key))
        is_kept = _is_below(layer, span, other) and not isinstance(today, dict)
        edit = _written(path, key, today, is_same=today is value) if is_kept else Edit(path)
        return _both(migration.old, key, span, other)._replace(fix=Fix((edit,)))
    fix = Fix(tuple(_edits(layer, path, key, today, is_same=today is value)))
    _put(layer, key, today, layer.marks.get(path))
    message, label = f"`{migration.old}` is an older name", f"write `{key}: {as_yaml(today)}`"
    return Diagnostic("SG401", message, span, label, fix=fix)


def _edits(layer: Layer, path: Path, key: str, value: Any, *, is_same: bool) -> Iterator[Edit]:
    """Yield the edits that write the entry at `path` as `key: value`, into the mapping that may be there."""
    new = ("training_args", key)
    if new not in layer.marks:
        yield _written(path, key, value, is_same=is_same)
        return
    yield Edit(path)
    if isinstance(value, dict):
        yield from (Edit((*new, below), value=item) for below, item in value.items())
    else:
        yield Edit(new, value=value)


def _written(path: Path, key: str, value: Any, *, is_same: bool) -> Edit:
    return Edit(path, key) if is_same else Edit(path, key, value)


def _is_below(layer: Layer, old: Span | None, new: Span | None) -> bool:
    """Tell whether the older key stands in a lower layer, which means the same without the newer one."""
    files = list(layer.sources)
    return old is not None and new is not None and files.index(old.file) < files.index(new.file)


def _is_set(args: Section, key: str, value: Any) -> bool:
    """Tell whether the newer key is there too and decides.

    A `warmup_steps` of 0 leaves it to the ratio, and mappings are joined.
    """
    if isinstance(value, dict) and isinstance(args.get(key), dict):
        return bool(value.keys() & args[key].keys())
    return key in args and not (key == "warmup_steps" and args[key] == 0)


def _both(old: str, new: str, span: Span | None, other: Span | None) -> Diagnostic:
    message = f"`{old}` and the newer `{new}` are both set"
    notes = (Note("this one decides", other),) if other else ()
    return Diagnostic("SG404", message, span, "remove it", notes=notes)


def _put(layer: Layer, key: str, value: Any, mark: Mark | None) -> None:
    args: Section = layer.data["training_args"]
    if isinstance(value, dict) and isinstance(args.get(key), dict):
        args[key] = {**args[key], **value}
        return
    args[key] = value
    for at in [at for at in layer.marks if at[:2] == ("training_args", key)]:
        del layer.marks[at]
    if mark:
        layer.marks["training_args", key] = mark


def _write_tags(layer: Layer) -> None:
    """Write the tags that may be left out: the method, and what `quant_conf` is by its settings."""
    layer.data.setdefault("method", "sft")
    section = layer.data.get("quant_conf")
    if isinstance(section, dict) and "quantization_type" not in section:
        tag = "bits-and-bytes" if section else "no-quantization"
        layer.data["quant_conf"] = {"quantization_type": tag, **section}
