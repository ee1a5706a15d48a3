"""Steps of lowering.py for method dpo: its losses as each version of TRL takes them, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Note
from silogen_compiler.lower.landings import ARGS
from silogen_compiler.values import Origin

if TYPE_CHECKING:
    from silogen_compiler.lower.lowering import Lowered

# Losses that read `label_smoothing`; `sigmoid` does so until TRL 0.24.
SMOOTHED = {"exo_pair", "robust", "aot", "aot_unpaired", "aot_pair"}
# What TRL 1.16 refuses, or fails at in the first step.
ONLY_REVERSE_KL = {"nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down"}
NO_WEIGHTING = {"aot", "aot_unpaired", "sft", "hinge"}


def lengths(lowered: Lowered) -> None:
    """Name the longest example and, where the target takes it as an argument, the longest prompt."""
    if lowered.values["method"] != "dpo":
        return
    lowered.put(("run", "save_name_if_new_basemodel"), None, Origin("method dpo adds no tokens"))
    path = (*ARGS, "max_length")
    lowered.put(("data", "max_length"), lowered.kwargs(ARGS)["max_length"], lowered.origins[path])
    place = ("data", "max_prompt_length")
    if "max_prompt_length" in lowered.surface():
        value = lowered.resolved["data"]["max_prompt_length"]
        lowered.put((*ARGS, "max_prompt_length"), value, lowered.origins[place])


def losses(lowered: Lowered) -> None:
    """Write DPO's losses as TRL 1.16 takes them: a list of names, some renamed, with weights.

    `rpo_alpha` becomes the loss `sft`, and the smoothed `sigmoid` the `robust` loss that equals it: both by
    the formulas of TRL 0.13 and 1.16, compared by running both.
    """
    if not _is_today(lowered):
        return
    args = lowered.kwargs(ARGS)
    names = ["aot_unpaired" if name == "aot_pair" else name for name in _names(lowered)]
    alpha, smoothing, smoothed = args.pop("rpo_alpha"), args["label_smoothing"], SMOOTHED & {*names}
    if smoothing and "sigmoid" in names and not smoothed:
        names = ["robust" if name == "sigmoid" else name for name in names]
        _rewrite(lowered, "label_smoothing", -smoothing / (1 - 2 * smoothing), "-ε / (1 - 2ε) of")
    if not smoothing and smoothed == {"exo_pair"}:
        _rewrite(lowered, "label_smoothing", 1e-3, "exo_pair needs some, not")
    if alpha:
        weights = [*(args["loss_weights"] or [1.0] * len(names)), alpha]
        lowered.put((*ARGS, "loss_weights"), weights, lowered.origins[*ARGS, "rpo_alpha"])
        names = [*names, "sft"]
    lowered.put((*ARGS, "loss_type"), names, lowered.origins[*ARGS, "loss_type"])


def alpha_divergence(lowered: Lowered) -> None:
    """Turn the coefficient of the alpha divergence round: TRL 1 counts it from the other end."""
    if _is_today(lowered):
        key = "f_alpha_divergence_coef"
        _rewrite(lowered, key, 1 - lowered.kwargs(ARGS)[key], "1 -")


def refused_by_losses(lowered: Lowered) -> None:
    """Name the settings that TRL 1.16 refuses for a loss."""
    if not _is_today(lowered):
        return
    args, names = lowered.kwargs(ARGS), {*_names(lowered)}
    divergence = args["f_divergence_type"]
    if divergence != "reverse_kl":
        for name in sorted(ONLY_REVERSE_KL & names):
            message = f"`f_divergence_type: {divergence}` does not work with the loss `{name}`"
            _refuse(lowered, "f_divergence_type", name, message, "write reverse_kl, or choose another loss")
    if args["use_weighting"]:
        for name in sorted(NO_WEIGHTING & names):
            message = f"`use_weighting` does not work with the loss `{name}`"
            _refuse(lowered, "use_weighting", name, message, "write false, or choose another loss")
    if "exo_pair" in names and not args["label_smoothing"]:
        message = "the loss `exo_pair` needs a `label_smoothing` above 0"
        _refuse(lowered, "label_smoothing", "exo_pair", message, "write `label_smoothing: 0.001`")


def _refuse(lowered: Lowered, key: str, name: str, message: str, label: str) -> None:
    values, trl = lowered.values, lowered.target.packages["trl"]
    note = Note(f"`{name}` is one of the losses", values.span("training_args.loss_type"))
    span = values.span(f"training_args.{key}")
    lowered.diagnostics.append(Diagnostic("SG504", f"{message} in TRL {trl}", span, label, notes=(note,)))


def unread_smoothing(lowered: Lowered) -> None:
    """Name a `label_smoothing` that no loss reads, or that `sigmoid` does not."""
    values = lowered.values
    if values["method"] != "dpo" or not values["training_args.label_smoothing"]:
        return
    names = dict.fromkeys(_names(lowered))
    reading = SMOOTHED if _is_today(lowered) else {*SMOOTHED, "sigmoid"}
    some_read = not reading.isdisjoint(names)
    unread = [name for name in names if name not in reading and (name == "sigmoid" or not some_read)]
    if unread:
        listed = ", ".join(f"`{name}`" for name in unread)
        message = f"`label_smoothing` has no effect on {listed} in {lowered.target.name}"
        label = "write `robust` for `sigmoid`, which reads it" if some_read else "remove it"
        span = values.span("training_args.label_smoothing")
        lowered.diagnostics.append(Diagnostic("SG502", message, span, label))


def _is_today(lowered: Lowered) -> bool:
    """Tell whether the target is a DPOTrainer of TRL 1."""
    return lowered.values["method"] == "dpo" and "rpo_alpha" not in lowered.surface()


def _names(lowered: Lowered) -> list[str]:
    names = lowered.kwargs(ARGS)["loss_type"]
    return [names] if isinstance(names, str) else list(names)


def _rewrite(lowered: Lowered, key: str, value: Any, why: str) -> None:
    old, origin = lowered.kwargs(ARGS)[key], lowered.origins[*ARGS, key]
    lowered.put((*ARGS, key), value, origin._replace(text=f"{why} {old} ({origin.text})"))


DPO = (lengths, losses, alpha_divergence, refused_by_losses, unread_smoothing)
