"""What a config asks of the machine: checked before anything is loaded, all findings at once."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.trainable import untrainable
from silogen_config import CallSpec, Concatenation, PretrainedAdapter
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from silogen_runtime.devices import bf16, dora, fp16, on_gpu, placement, tf32
from silogen_runtime.earlier_adapter import check_adapter
from silogen_runtime.failures import TRACKING_HELP
from silogen_runtime.outputs import check_outputs
from silogen_runtime.sharing import launcher_strategy, processes, sharding
from silogen_runtime.versions import check_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from silogen_config import ResolvedConfig

    Findings = Iterator[Diagnostic]

# Attention that trains on GPUs only, with the package of it; what is None comes with torch or the kernels.
GPU_ATTENTION = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": None,
    "flex_attention": None,
}
ATTENTION = ("sdpa", "eager", *GPU_ATTENTION)

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

ADAPTER_PACKAGES = {"AdamssConfig": "sklearn"}

INSTALLED_AS = {
    "apollo_torch": "apollo-torch",
    "flash_attn": "flash-attn",
    "flash_attn_interface": "flash-attn-3",
    "galore_torch": "galore-torch",
    "liger_kernel": "liger-kernel",
    "lomo_optim": "lomo-optim",
    "optimi": "torch-optimi",
    "sklearn": "scikit-learn",
}

# Files of which a folder that is loaded from holds at least one.
FILES = {
    "model": ("config.json",),
    "tokenizer": ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json"),
    "adapter": ("adapter_config.json",),
}

PATHS_HELP = "paths start from the folder that the command runs in"

MLFLOW_WORDS = {"databricks", "databricks-uc", "uc"}


def check_machine(config: ResolvedConfig) -> list[Diagnostic]:
    """Return what this machine lacks for the config."""
    return [finding for rule in RULES for finding in rule(config)]


def adapter(config: ResolvedConfig) -> Findings:
    if isinstance(config.peft, CallSpec):
        yield from untrainable(config.peft.class_, config.peft.kwargs)


def adapter_class(config: ResolvedConfig) -> str:
    """Return the name of the class of a new adapter's config, empty where there is no new adapter."""
    return config.peft.class_ if isinstance(config.peft, CallSpec) else ""


def attention(config: ResolvedConfig) -> Findings:
    wanted = config.model.from_pretrained.get("attn_implementation")
    if not isinstance(wanted, str):
        return
    asked_by = f"attn_implementation `{wanted}`"
    if "/" in wanted:  # a repository of kernels
        yield from missing_package("kernels", asked_by)
    elif wanted not in ATTENTION:
        yield Diagnostic(
            "SG705", f"{asked_by} can't be trained with", help=f"write one of {', '.join(ATTENTION)}"
        )
    elif wanted in GPU_ATTENTION and not on_gpu(config):
        reason = "`use_cpu` is on" if torch.cuda.is_available() else "there is none"
        yield Diagnostic(
            "SG705", f"{asked_by} needs a GPU, and {reason}", help="write `attn_implementation: sdpa`"
        )
    package = GPU_ATTENTION.get(wanted)
    if package and find_spec("kernels") is None:  # transformers takes the kernels in place of the package
        yield from missing_package(package, asked_by)


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
    if (name := adapter_class(config)) in ADAPTER_PACKAGES:
        yield ADAPTER_PACKAGES[name], name
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
            install = f"pip install {name}; " if name in INTEGRATION_TO_CALLBACK else ""
            yield Diagnostic(
                "SG704",
                f"report_to `{name}` needs a package that is not installed",
                help=f"{install}installed here: {', '.join(available) or 'none'}",
            )
    if "mlflow" in names and config.tracking is None:
        help_text = "add a section `tracking`, set MLFLOW_TRACKING_URI, or leave mlflow out of `report_to`"
        yield Diagnostic("SG769", "report_to names mlflow, which is off", help=help_text)


def data_files(config: ResolvedConfig) -> Findings:
    sources: list[Any] = [config.data.train]
    if isinstance(config.data.validation, Concatenation):
        sources.append(config.data.validation)
    for path in [file.path for source in sources for file in source.datasets]:
        if not Path(path).is_file():
            yield Diagnostic("SG706", f"there is no data file `{path}`", help=PATHS_HELP, file=path)


def model_folders(config: ResolvedConfig) -> Findings:
    folders = {
        "model": config.model.from_pretrained.get("pretrained_model_name_or_path", ""),
        "tokenizer": config.tokenizer.from_pretrained.get("pretrained_model_name_or_path", ""),
        "adapter": config.peft.pretrained if isinstance(config.peft, PretrainedAdapter) else "",
    }
    missing: dict[str, list[str]] = {}
    for what, path in folders.items():
        if Path(path).is_dir():
            yield from missing_files(what, path)
        elif looks_like_path(path):
            missing.setdefault(path, []).append(what)
    for path, kinds in missing.items():
        message = f"there is no folder `{path}` for the {' and the '.join(kinds)}"
        yield Diagnostic("SG706", message, help=PATHS_HELP, file=path)


def missing_files(what: str, path: str) -> Findings:
    patterns = FILES[what]
    if path and not any([*Path(path).glob(pattern)] for pattern in patterns):
        help_text = f"it needs {' or '.join(patterns)}"
        yield Diagnostic("SG706", f"the folder `{path}` holds no {what}", help=help_text, file=path)


def looks_like_path(name: str) -> bool:
    """Tell a folder from the id of a model on the hub, which has one slash at most."""
    return name.startswith(("./", "../", "/", "~")) or name.count("/") > 1


def steps(config: ResolvedConfig) -> Findings:
    args = config.trainer.args
    wanted, epochs = args.get("max_steps", -1), args.get("num_train_epochs", 3)
    if wanted == 0 or (wanted < 0 and epochs <= 0):
        key, value = ("max_steps", wanted) if wanted == 0 else ("num_train_epochs", epochs)
        help_text = "write at least 1, or `max_steps: -1` with `num_train_epochs`"
        yield Diagnostic("SG727", f"{key} is {value}, so there is no step to train", help=help_text)


def tracking(config: ResolvedConfig) -> Findings:
    uri = config.tracking.mlflow_server_uri if config.tracking else None
    if uri is None or uri in MLFLOW_WORDS or os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        return
    if ":" not in uri or uri.startswith("file:"):
        yield Diagnostic(
            "SG731",
            f"mlflow_server_uri `{uri}` is a folder, which MLflow no longer takes",
            help=TRACKING_HELP,
        )


RULES: tuple[Callable[[ResolvedConfig], Findings], ...] = (
    adapter,
    check_versions,
    processes,
    sharding,
    launcher_strategy,
    steps,
    check_outputs,
    data_files,
    model_folders,
    check_adapter,
    bf16,
    fp16,
    tf32,
    dora,
    placement,
    attention,
    packages,
    reporting,
    tracking,
)
