"""Steps of lowering.py: settings of an adapter that peft takes and no training with TRL reads.

Read in peft 0.21, transformers 5.23 and TRL 1.16. peft adds some losses to the model's own, which TRL 1 does
not take: it computes the loss from the log-probabilities. Other settings need a call from the training loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Diagnostic

if TYPE_CHECKING:
    from silogen_compiler.lower.lowering import Lowered

KWARGS = "peft_conf.peft_kwargs"


class Unused(NamedTuple):
    """An argument of an adapter that has no effect, unless it holds what is `idle`."""

    peft_type: str
    key: str
    idle: Any
    reason: str


NOT_ADDED = "TRL computes the loss itself, without the part that {} would add"
NOT_CALLED = "no trainer makes the calls that prune"
NOT_READ = "AdaLoRA does not read it"

# Weights of losses that peft's models add to their own. The trainers of TRL 0 take that one in method sft.
ADDED_LOSSES = (
    Unused("ADALORA", "orth_reg_weight", 0, NOT_ADDED.format("AdaLoRA")),
    Unused("SHADOW", "auxiliary_loss_weight", 0, NOT_ADDED.format("the shadow")),
)
UNUSED = (
    Unused("LORA", "kasa_config.beta", 0, NOT_ADDED.format("KaSA")),
    Unused("LORA", "kasa_config.gamma", 0, NOT_ADDED.format("KaSA")),
    Unused("LORA", "monteclora_config.kl_loss_weight", 0, NOT_ADDED.format("MonteCLoRA")),
    Unused("LORA", "monteclora_config.dirichlet_prior", None, NOT_ADDED.format("MonteCLoRA")),
    Unused("LORA", "monteclora_config.use_entropy", idle=False, reason=NOT_ADDED.format("MonteCLoRA")),
    Unused("ADAMSS", "use_asa", idle=False, reason=NOT_CALLED),
    Unused("OSF", "target_svd_config", None, "peft does not read it"),
    Unused("ADALORA", "r", 8, "AdaLoRA starts from `init_r`"),
    Unused("ADALORA", "use_rslora", idle=False, reason=NOT_READ),
    Unused("ADALORA", "alpha_pattern", {}, NOT_READ),
    Unused("ADALORA", "megatron_config", None, NOT_READ),
    Unused("ADALORA", "megatron_core", "megatron.core", NOT_READ),
    Unused("ADALORA", "eva_config", None, NOT_READ),
    Unused("ADALORA", "corda_config", None, NOT_READ),
    Unused("ADALORA", "lora_ga_config", None, NOT_READ),
    Unused("ADALORA", "velora_config", None, NOT_READ),
    Unused("ADALORA", "use_qalora", idle=False, reason=NOT_READ),
    Unused("ADALORA", "qalora_group_size", 16, NOT_READ),
    Unused("ADALORA", "monteclora_config", None, NOT_READ),
    Unused("ADALORA", "lora_bias", idle=False, reason=NOT_READ),
    Unused("ADALORA", "use_bdlora", None, NOT_READ),
    Unused("ADALORA", "arrow_config", None, NOT_READ),
    Unused("ADALORA", "kasa_config", None, NOT_READ),
)


def unused(lowered: Lowered) -> None:
    """Name the arguments that a person wrote for nothing."""
    values, today = lowered.values, not lowered.target.packages["trl"].startswith("0.")
    kind = values["peft_conf.peft_type"]
    for row in (*UNUSED, *(ADDED_LOSSES if today or values["method"] == "dpo" else ())):
        key = f"{KWARGS}.{row.key}"
        if row.peft_type == kind and values.is_written(key) and values[key] != row.idle:
            message = f"`{row.key}` has no effect: {row.reason}"
            lowered.diagnostics.append(Diagnostic("SG354", message, values.span(key), "remove it"))


def ranks_without_cuts(lowered: Lowered) -> None:
    """Name ranks that AdaLoRA never cuts: no trainer calls its `update_and_allocate`."""
    values = lowered.values
    if values["peft_conf.peft_type"] == "ADALORA":
        rank = values[f"{KWARGS}.init_r"]
        message = f"AdaLoRA's ranks stay at `init_r` {rank}: the trainer never makes its cuts"
        label = f"LORA with `r: {rank}` trains as many weights"
        span = values.span("peft_conf.peft_type")
        lowered.diagnostics.append(Diagnostic("SG354", message, span, label))


UNUSED_STEPS = (unused, ranks_without_cuts)
