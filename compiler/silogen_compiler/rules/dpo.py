"""Rules for general.py: what TRL's trainer for preferences refuses in every version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Findings

if TYPE_CHECKING:
    from silogen_compiler.values import Values

BY_LENGTH = ("group_by_length", "batch_rebalance")


def a_weight_for_each_loss(values: Values) -> Findings:
    losses, weights = values["training_args.loss_type"], values["training_args.loss_weights"]
    names = [losses] if isinstance(losses, str) else losses
    if weights is not None and len(weights) != len(names):
        message = f"`loss_weights` has {_counted(len(weights), 'weight')} for {_counted(len(names), 'loss')}"
        label = (
            f"write one for each of {', '.join(names)}"
            if len(names) > 1
            else "write one number, or remove it"
        )
        note = values.also("training_args.loss_type") if len(names) == 1 else ()
        yield Diagnostic("SG353", message, values.span("training_args.loss_weights"), label, notes=note)


def _counted(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{plural * (number != 1)}"


def no_order_by_length(values: Values) -> Findings:
    strategy = values["training_args.train_sampling_strategy"]
    if strategy in BY_LENGTH:
        message = f"`train_sampling_strategy: {strategy}` fails in method dpo: a pair has no single length"
        span = values.span("training_args.train_sampling_strategy")
        yield Diagnostic("SG357", message, span, "write random or sequential")


def reference_model_to_move(values: Values) -> Findings:
    if not values["training_args.sync_ref_model"]:
        return
    span = values.span("training_args.sync_ref_model")
    if values["peft_conf.peft_type"] != "NO_PEFT":
        message = "`sync_ref_model` has nothing to move: beside an adapter the base model is the reference"
        note = values.also("peft_conf.peft_type")
        yield Diagnostic("SG358", message, span, "write false", notes=note)
    if values["training_args.precompute_ref_log_probs"]:
        message = "`sync_ref_model` moves the model whose results `precompute_ref_log_probs` keeps"
        note = values.also("training_args.precompute_ref_log_probs")
        yield Diagnostic("SG358", message, span, "remove one of them", notes=note)


def dpo_settings(values: Values) -> Findings:
    if values["method"] == "dpo":
        for rule in DPO_RULES:
            yield from rule(values)


DPO_RULES = (a_weight_for_each_loss, no_order_by_length, reference_model_to_move)
