"""How processes share a run: checked against what the launcher started and what this machine can do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from silogen_compiler.diagnostics import Diagnostic, Findings

from silogen_runtime.devices import on_gpu
from silogen_runtime.environment import check_launcher, world_size

if TYPE_CHECKING:
    from silogen_config import ResolvedConfig


def processes(config: ResolvedConfig) -> Findings:
    wrong = list(check_launcher())
    yield from wrong
    planned, real = config.launch.world_size, 0 if wrong else world_size()
    if real and planned != real:
        yield Diagnostic(
            "SG702",
            f"the config is resolved for {planned} process{'es' * (planned > 1)}, but {real} started",
            help=f"compile with `--world-size {real}`, or start {planned} with `silogen train` or torchrun",
        )


def sharding(config: ResolvedConfig) -> Findings:
    if shards_parameters(config) and not on_gpu(config):
        name = {"fsdp": "FSDP", "deepspeed": "ZeRO 3"}[config.launch.strategy]
        reason = "`use_cpu` is on" if torch.cuda.is_available() else "there is none"
        help_text = "compile with `launch.strategy: ddp`, or strategy deepspeed with `zero_stage: 2`"
        yield Diagnostic("SG741", f"{name} needs a GPU, and {reason}", help=help_text)


def shards_parameters(config: ResolvedConfig) -> bool:
    """Tell whether no process holds all parameters."""
    if config.launch.strategy == "deepspeed":
        return zero_stage(config.trainer.args["deepspeed"]) == 3  # noqa: PLR2004 - the stage that shards them
    return config.launch.strategy == "fsdp"


def zero_stage(settings: Any) -> int:
    """Return the stage of ZeRO of a DeepSpeed config: a mapping, JSON text, or the path of a file; else 0."""
    try:
        if isinstance(settings, str):
            is_text = settings.lstrip().startswith("{")
            settings = json.loads(settings if is_text else Path(settings).read_text("utf-8"))
        return int(settings["zero_optimization"]["stage"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # DeepSpeed says what is wrong


def launcher_strategy(config: ResolvedConfig) -> Findings:
    """Compare what `accelerate launch` asks for, which the libraries would follow unseen."""
    for name, strategy in {"ACCELERATE_USE_FSDP": "fsdp", "ACCELERATE_USE_DEEPSPEED": "deepspeed"}.items():
        if os.environ.get(name, "").lower() in {"1", "true"} and config.launch.strategy != strategy:
            message = (
                f"accelerate launches with {strategy}, and the config trains with {config.launch.strategy}"
            )
            help_text = f"write `strategy: {strategy}` under `launch`, or launch without"
            yield Diagnostic("SG745", message, help=help_text)
