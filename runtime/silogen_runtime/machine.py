"""What a config asks of the machine: checked before anything is loaded, all findings at once."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from silogen_compiler.diagnostics import Diagnostic
from silogen_config import Concatenation, PretrainedAdapter
from transformers.integrations.integration_utils import get_available_reporting_integrations

from silogen_runtime.environment import world_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from silogen_config import ResolvedConfig

    Findings = Iterator[Diagnostic]

AMPERE = (8, 0)  # first compute capability with tf32

ATTENTION_PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}

OPTIMIZER_PACKAGES = {
    r"adamw_torch_[48]bit": "torchao",
    r"adamw_torch_npu_fused": "torch_npu",
    r"adamw_torch_xla": "torch_xla",
    r"adamw_anyprecision": "torchdistx",
    r"galore_.*": "galore_torch",
    r"(ada)?lomo": "lomo_optim",
    r"grokadamw": "grokadamw",
    r"schedule_free_.*": "schedulefree",
    r"apollo_.*": "apollo_torch",
    r"stable_adamw": "optimi",
    r"paged_.*|lion_.*|ademamix.*|rmsprop_bnb.*|adamw_(bnb_)?8bit": "bitsandbytes",
}

INSTALLED_AS = {
    "apollo_torch": "apollo-torch",
    "flash_attn": "flash-attn",
    "flash_attn_interface": "flash-attn-3",
    "galore_torch": "galore-torch",
    "liger_kernel": "liger-kernel",
    "lomo_optim": "lomo-optim",
    "optimi": "torch-optimi",
}


def check_machine(config: ResolvedConfig) -> list[Diagnostic]:
    """Return what this machine lacks for the config."""
    return [finding for rule in RULES for finding in rule(config)]


def method(config: ResolvedConfig) -> Findings:
    if config.method != "sft":
        yield Diagnostic(
            "SG724",
            f"method {config.method} can be compiled, but not trained yet",
            help="compile it with `--format json` for a script of your own, or train with method sft",
        )


def bf16(config: ResolvedConfig) -> Findings:
    args = config.trainer.args
    if not args.get("bf16"):
        return
    if not torch.cuda.is_available() and not args.get("use_cpu"):
        yield Diagnostic(
            "SG703",
            "bf16 is on, but there is no GPU",
            help="write `use_cpu: true` in training_args to train on the CPU, or `bf16: false`",
        )
    elif torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield Diagnostic(
            "SG703",
            f"bf16 is on, but {torch.cuda.get_device_name()} can't compute in it",
            help="write `fp16: true` in place of `bf16: true`",
        )


def tf32(config: ResolvedConfig) -> Findings:
    if not config.trainer.args.get("tf32"):
        return
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < AMPERE:
        yield Diagnostic(
            "SG703",
            "tf32 is on, but only NVIDIA GPUs from the Ampere generation on have it",
            help="remove `tf32`",
        )


def attention(config: ResolvedConfig) -> Findings:
    wanted = config.model.from_pretrained.get("attn_implementation")
    package = ATTENTION_PACKAGES.get(wanted or "")
    if not package:
        return
    if not torch.cuda.is_available():
        yield Diagnostic(
            "SG705",
            f"attn_implementation `{wanted}` needs a GPU, and there is none",
            help="write `attn_implementation: sdpa`",
        )
    yield from missing_package(package, f"attn_implementation `{wanted}`")


def packages(config: ResolvedConfig) -> Findings:
    for package, asked_by in needed_packages(config):
        yield from missing_package(package, asked_by)


def needed_packages(config: ResolvedConfig) -> Iterator[tuple[str, str]]:
    """Yield each package that the config needs beside the usual ones, with what asks for it."""
    args = config.trainer.args
    optimizer = str(args.get("optim"))
    for pattern, package in OPTIMIZER_PACKAGES.items():
        if re.fullmatch(pattern, optimizer):
            yield package, f"optim `{optimizer}`"
    for key, package in {"use_liger_kernel": "liger_kernel", "deepspeed": "deepspeed"}.items():
        if args.get(key):
            yield package, key
    if config.quantization and config.quantization.class_ == "BitsAndBytesConfig":
        yield "bitsandbytes", "quant_conf"
    if config.tracking:
        yield "mlflow", "tracking"


def missing_package(package: str, asked_by: str) -> Findings:
    if find_spec(package) is None:
        yield Diagnostic(
            "SG704",
            f"{asked_by} needs the package `{package}`, which is not installed",
            help=f"pip install {INSTALLED_AS.get(package, package)}",
        )


def reporting(config: ResolvedConfig) -> Findings:
    wanted = config.trainer.args.get("report_to") or []
    names = [wanted] if isinstance(wanted, str) else wanted
    available = get_available_reporting_integrations()  # type: ignore[no-untyped-call]
    for name in names:
        if name not in {"none", "all", *available}:
            yield Diagnostic(
                "SG704",
                f"report_to `{name}` needs a package that is not installed",
                help=f"installed here: {', '.join(available) or 'none'}",
            )


def data_files(config: ResolvedConfig) -> Findings:
    sources: list[Any] = [config.data.train]
    if isinstance(config.data.validation, Concatenation):
        sources.append(config.data.validation)
    for path in [file.path for source in sources for file in source.datasets]:
        if not Path(path).is_file():
            yield Diagnostic("SG706", f"there is no data file `{path}`", file=path)


def model_folders(config: ResolvedConfig) -> Findings:
    folders = {
        "model": config.model.from_pretrained.get("pretrained_model_name_or_path", ""),
        "tokenizer": config.tokenizer.from_pretrained.get("pretrained_model_name_or_path", ""),
        "adapter": config.peft.pretrained if isinstance(config.peft, PretrainedAdapter) else "",
    }
    for what, path in folders.items():
        if looks_like_path(path) and not Path(path).is_dir():
            yield Diagnostic("SG706", f"there is no folder `{path}` for the {what}", file=path)


def looks_like_path(name: str) -> bool:
    """Tell a folder from the id of a model on the hub, which has one slash at most."""
    return name.startswith(("./", "../", "/")) or name.count("/") > 1


def processes(config: ResolvedConfig) -> Findings:
    planned, real = config.launch.world_size, world_size()
    if planned != real:
        yield Diagnostic(
            "SG702",
            f"the config is resolved for {planned} process{'es' * (planned > 1)}, but {real} started",
            help=f"compile with `--world-size {real}`, or start with `torchrun --nproc-per-node {planned}`",
        )


RULES: tuple[Callable[[ResolvedConfig], Findings], ...] = (
    method,
    processes,
    data_files,
    model_folders,
    bf16,
    tf32,
    attention,
    packages,
    reporting,
)
