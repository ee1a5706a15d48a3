"""What compiles, and TRL's trainers can't train."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

TASK = "CAUSAL_LM"
NO_TASKS = "it must be told the task of each example, and conversations name none"

# Adapters of peft 0.21 that TRL 1.16 can't train, by class, each with its reason.
UNTRAINABLE = {
    "AdaptionPromptConfig": "peft passes over the forward in which TRL computes the loss",
    "CPTConfig": "its loss is computed from logits, which TRL does not build",
    "MultitaskPromptTuningConfig": NO_TASKS,
    "PolyConfig": NO_TASKS,
    "XLoraConfig": "its gate reads hidden states, which TRL does not keep",
}


# Starts of LoRA that a run from a config does not make, or that a saved adapter can't repeat.
STARTS = {
    r"eva|lora_ga|corda": (
        "it needs a pass over data before the training, which no trainer makes",
        "write true, or a start from the weights alone, such as `orthogonal` or `pissa`",
    ),
    r"pissa_niter_\d+": (
        "it changes the base model at random, so the saved adapter fits no base model afterwards",
        "write `pissa`, which changes it the same way each time",
    ),
}

# Adapters that can't be trained on once they are saved, by class, each with its reason.
ENDED = {"PromptEncoderConfig": "it is saved without the encoder that its tokens come from"}


def untrainable(adapter: str, kwargs: Mapping[str, Any] | None = None) -> Findings:
    """Yield why TRL can't train an adapter, named by the class of its config, or not as its arguments say."""
    if adapter in UNTRAINABLE:
        yield Diagnostic(
            "SG725",
            f"{adapter} can be compiled, but not trained: {UNTRAINABLE[adapter]}",
            help="choose another peft_type, such as LORA",
        )
    kwargs = kwargs or {}
    task, start = kwargs.get("task_type", TASK), kwargs.get("init_lora_weights")
    if task != TASK:
        message = f"the adapter is trained to write text, and saved as one for {task}"
        yield Diagnostic(
            "SG779", message, help=f"write `task_type: {TASK}`, or libraries load it as the other"
        )
    for pattern, (reason, help_text) in STARTS.items():
        if isinstance(start, str) and re.fullmatch(pattern, start):
            message = f"`init_lora_weights: {start}` can be compiled, but not trained: {reason}"
            yield Diagnostic("SG774", message, help=help_text)


def uncontinued(adapter: str) -> Findings:
    """Yield why no run can go on from a saved adapter, named by the class of its config."""
    if adapter in ENDED:
        message = f"no run can go on from an adapter of {adapter}: {ENDED[adapter]}"
        yield Diagnostic("SG778", message, help="start anew")
