"""What compiles, and TRL's trainers can't train."""

from __future__ import annotations

from silogen_compiler.diagnostics import Diagnostic, Findings

NO_TASKS = "it must be told the task of each example, and conversations name none"

# Adapters of peft 0.21 that TRL 1.16 can't train, by class, each with its reason.
UNTRAINABLE = {
    "AdaptionPromptConfig": "peft passes over the forward in which TRL computes the loss",
    "CPTConfig": "its loss is computed from logits, which TRL does not build",
    "MultitaskPromptTuningConfig": NO_TASKS,
    "PolyConfig": NO_TASKS,
    "XLoraConfig": "its gate reads hidden states, which TRL does not keep",
}


def untrainable(adapter: str) -> Findings:
    """Yield why TRL can't train an adapter, named by the class of its config."""
    if adapter in UNTRAINABLE:
        yield Diagnostic(
            "SG725",
            f"{adapter} can be compiled, but not trained: {UNTRAINABLE[adapter]}",
            help="choose another peft_type, such as LORA",
        )
