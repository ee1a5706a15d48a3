"""The config of a cell, and the models and data that all cells share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from silogen_compiler.chat_templates import TOKENS
from tiny import ARGS, LINES, PAIRS, bos_tokenizer, save_model, write_lines
from transformers import AddedToken

if TYPE_CHECKING:
    from pathlib import Path

    from cells import Cell

STEPS = 3
MOST_TOKENS = 128
LOW_RANK = {"r": 4, "target_modules": "all-linear"}

PEFTS = {
    "NO_PEFT": {"peft_type": "NO_PEFT"},
    "LORA": {"peft_type": "LORA", "peft_kwargs": LOW_RANK},
    "DORA": {"peft_type": "LORA", "peft_kwargs": {**LOW_RANK, "use_dora": True}},
    "PROMPT_TUNING": {"peft_type": "PROMPT_TUNING", "peft_kwargs": {"num_virtual_tokens": 4}},
    "IA3": {"peft_type": "IA3", "peft_kwargs": {}},
    "LOHA": {"peft_type": "LOHA", "peft_kwargs": {"r": 4}},
    "ADALORA": {"peft_type": "ADALORA", "peft_kwargs": {"total_step": STEPS}},
}
QUANTIZATIONS = {
    "none": {"quantization_type": "no-quantization"},
    "4-bit": {"quantization_type": "bits-and-bytes", "load_in_4bit": True},
    "8-bit": {"quantization_type": "bits-and-bytes", "load_in_8bit": True},
}
TWO = {"processes_per_node": 2}
LAUNCHES = {
    "single": {},
    "ddp": TWO,
    **{f"zero-{stage}": {**TWO, "strategy": "deepspeed", "zero_stage": stage} for stage in (1, 2, 3)},
    "fsdp": {**TWO, "strategy": "fsdp"},
}
OF_METHOD = {
    "sft": {"sft_args": {"max_seq_length": MOST_TOKENS}},
    "dpo": {"training_args": {"max_length": MOST_TOKENS, "max_prompt_length": MOST_TOKENS // 2}},
}


def write_shared(folder: Path) -> dict[str, str]:
    """Save data for each method and a model for each vocabulary; return their paths by these names."""
    known = bos_tokenizer()
    tokens = dict.fromkeys(token for added, _ in TOKENS.values() for token in added)
    known.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return {
        "sft": write_lines(folder / "sft.jsonl", LINES),
        "dpo": write_lines(folder / "dpo.jsonl", PAIRS),
        "known": save_model(folder / "known", known),
        "new": save_model(folder / "new", bos_tokenizer()),
    }


def config_of(cell: Cell, shared: dict[str, str], output_dir: Path) -> dict[str, Any]:
    """Return what a person would write to train the cell: a total batch of 4, of which 2 fit a process."""
    section = OF_METHOD[cell.method]
    args = {**ARGS, "max_steps": STEPS, "output_dir": str(output_dir), "ddp_timeout": 600}
    return {
        "method": cell.method,
        "data_conf": {
            "training_data": {"type": "CONCATENATION", "datasets": [{"path": shared[cell.method]}]},
            "validation_data": {"type": "NONE"},
            "chat_template_name": cell.template,
            "missing_pad_token_strategy": "eos-repurpose",
        },
        "batchsize_conf": {"total_train_batch_size": 4, "max_per_device_train_batch_size": 2},
        "peft_conf": PEFTS[cell.peft],
        "quant_conf": QUANTIZATIONS[cell.quantization],
        "run_conf": {"model": shared[cell.vocabulary]},
        "launch": LAUNCHES[cell.strategy],
        **section,
        "training_args": args | section.get("training_args", {}),
    }
