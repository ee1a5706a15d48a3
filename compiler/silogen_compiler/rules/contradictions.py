"""Rules for general.py: two keys for one thing that say different things."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Findings, Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.values import Values


def one_checkpointing(values: Values) -> Findings:
    for suffix in ("", "_kwargs"):
        old, new = f"gradient_checkpointing{suffix}", f"activation_checkpointing{suffix}"
        first, second = values[f"training_args.{old}"], values[f"training_args.{new}"]
        is_written = values.is_written(f"training_args.{old}") and first is not None
        if is_written and second is not None and _parsed(first) != _parsed(second):
            message = f"`{old}` and `{new}` are both set, to different values"
            note = Note("this one decides", values.span(f"training_args.{new}"))
            yield Diagnostic(
                "SG404", message, values.span(f"training_args.{old}"), "remove it", notes=(note,)
            )


def _parsed(value: Any) -> Any:
    """Return a mapping that is written as JSON text; what is no JSON stays text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def deterministic_or_not(values: Values) -> Findings:
    """Refuse a written false that `determinism` turns into true."""
    switch = "training_args.full_determinism"
    if values["run_conf.determinism"] == "full" and values.is_written(switch) and not values[switch]:
        message = "`full_determinism` is false, and `determinism: full` turns it on"
        note = values.also("run_conf.determinism")
        yield Diagnostic("SG355", message, values.span(switch), "remove one of them", notes=note)


def compiling_or_not(values: Values) -> Findings:
    """Refuse a written false that TrainingArguments turns into true."""
    switch = "training_args.torch_compile"
    for key in ("torch_compile_backend", "torch_compile_mode"):
        if values[f"training_args.{key}"] is not None and values.is_written(switch) and not values[switch]:
            message = f"`torch_compile` is false, and `{key}` turns it on"
            note = values.also(f"training_args.{key}")
            yield Diagnostic("SG351", message, values.span(switch), "remove one of them", notes=note)


def one_run_name(values: Values) -> Findings:
    name, tracked = values["training_args.run_name"], (values["tracking"] or {}).get("run_name")
    if tracked and name not in (None, tracked):
        message = "`training_args.run_name` is replaced by `tracking.run_name`"
        note = values.also("tracking.run_name")
        yield Diagnostic("SG356", message, values.span("training_args.run_name"), "remove it", notes=note)


CONTRADICTIONS: tuple[Callable[[Values], Findings], ...] = (
    one_checkpointing,
    deterministic_or_not,
    compiling_or_not,
    one_run_name,
)
