"""What a config asks of processors: number formats, and devices for the parts of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from silogen_compiler.diagnostics import Diagnostic, Findings
from silogen_config import CallSpec

if TYPE_CHECKING:
    from silogen_config import ResolvedConfig

AMPERE = (8, 0)  # first compute capability with tf32

PLACEMENTS = ("auto", "balanced", "balanced_low_0", "sequential")


def on_gpu(config: ResolvedConfig) -> bool:
    return torch.cuda.is_available() and not config.trainer.args.get("use_cpu")


def bf16(config: ResolvedConfig) -> Findings:
    args = config.trainer.args
    for key in ("bf16", "bf16_full_eval"):
        if not args.get(key) or args.get("use_cpu"):
            continue
        if not torch.cuda.is_available():
            yield Diagnostic(
                "SG703",
                f"{key} is on, but there is no GPU",
                help=f"write `use_cpu: true` in training_args to train on the CPU, or `{key}: false`",
            )
        elif not torch.cuda.is_bf16_supported(including_emulation=False):
            yield Diagnostic(
                "SG703",
                f"{key} is on, but {torch.cuda.get_device_name()} can't compute in it",
                help=f"write `{key.replace('bf', 'fp')}: true` in place of `{key}: true`",
            )


def fp16(config: ResolvedConfig) -> Findings:
    args = config.trainer.args
    if args.get("fp16") and (args.get("use_cpu") or not torch.accelerator.is_available()):
        yield Diagnostic(
            "SG703",
            "fp16 is on, but has no effect on the CPU",
            help="remove `fp16`, or write `bf16: true` and `use_cpu: true`",
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


def dora(config: ResolvedConfig) -> Findings:
    """Refuse DoRA where peft 0.21 loses the scales of the weights, in the second step."""
    kwargs = config.peft.kwargs if isinstance(config.peft, CallSpec) else {}
    in_8_bits = config.quantization and config.quantization.kwargs.get("load_in_8bit")
    if kwargs.get("use_dora") and in_8_bits and not on_gpu(config):
        yield Diagnostic(
            "SG359",
            "without a GPU `use_dora` does not work with weights in 8 bits",
            help="remove it, or write `load_in_4bit: true`",
        )


def placement(config: ResolvedConfig) -> Findings:
    kwargs = config.model.from_pretrained
    named = {"device_map": _devices(kwargs.get("device_map")), "max_memory": _keys(kwargs.get("max_memory"))}
    for key, devices in named.items():
        for name in devices:
            if not is_there(name):
                yield Diagnostic(
                    "SG730",
                    f"{key} names `{name}`, and there is no such device here",
                    help=f"write {', '.join(PLACEMENTS)} or one of the devices: {', '.join(present())}",
                )


def is_there(name: str) -> bool:
    """Tell whether a device is in this machine; a plain number is a GPU's."""
    try:
        device = torch.device(f"cuda:{name}" if name.isdecimal() else name)
        count: int = torch.get_device_module(device).device_count()
    except (RuntimeError, AttributeError):
        return False
    return (device.index or 0) < count


def present() -> list[str]:
    """Return the names of the devices in this machine."""
    return ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]


def _devices(device_map: Any) -> list[str]:
    """Return the devices that a device_map names, each once; "disk" is a place for parts of a model only."""
    if isinstance(device_map, dict):
        return _keys(dict.fromkeys(device_map.values()))
    return [] if device_map is None or device_map in PLACEMENTS else [str(device_map)]


def _keys(devices: Any) -> list[str]:
    names = devices if isinstance(devices, dict) else {}
    return [str(name) for name in names if name != "disk"]
