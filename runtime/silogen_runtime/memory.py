"""Running out of memory: told apart from other failures, and what to change in the config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from silogen_compiler.diagnostics import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_config import ResolvedConfig

KINDS = (torch.OutOfMemoryError, MemoryError)
TEXTS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
LENGTHS = {"sft": "max_seq_length", "dpo": "max_length"}  # what the length is called in a config
UNKNOWN = (
    "lower `max_per_device_train_batch_size` or the length of the examples, write"
    " `gradient_checkpointing: true`, or load the model in 4 bits with an adapter"
)


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, KINDS) or any(text in str(error) for text in TEXTS)


def out_of_memory(said: str, stage: str, config: ResolvedConfig | None) -> Diagnostic:
    """Return what to tell a person: what the library said, and what of the config takes the memory."""
    remedies = list(_remedies(stage, config)) if config else [UNKNOWN]
    return Diagnostic("SG718", f"out of memory while {stage}: {said}".rstrip(": "), help="; ".join(remedies))


def _remedies(stage: str, config: ResolvedConfig) -> Iterator[str]:
    """Yield what to change, the cheapest first."""
    if stage != "loading the model":
        yield from _smaller_steps(config)
    if config.quantization is None:
        adapter = "" if config.peft else " with an adapter in `peft_conf`"
        yield f"load the model in 4 bits{adapter}: `quant_conf: {{load_in_4bit: true}}`"
    elif config.quantization.kwargs.get("load_in_8bit"):
        yield "load the model in 4 bits instead of 8"
    if config.launch.strategy in {"single", "ddp"} and torch.cuda.device_count() > 1:
        yield "share the model out over the GPUs: `launch: {processes_per_node: auto, strategy: fsdp}`"


def _smaller_steps(config: ResolvedConfig) -> Iterator[str]:
    args = config.trainer.args
    batch = args["per_device_train_batch_size"]
    if batch > 1:
        total = batch * args["gradient_accumulation_steps"] * config.launch.world_size
        rest = f"more accumulation keeps the total of {total}"
        yield f"lower `max_per_device_train_batch_size` below {batch}, the batch on each device now: {rest}"
    if not (args.get("activation_checkpointing") or args.get("gradient_checkpointing")):
        yield "write `gradient_checkpointing: true`"
    yield f"lower `{LENGTHS[config.method]}`, now {config.data.max_length}"
