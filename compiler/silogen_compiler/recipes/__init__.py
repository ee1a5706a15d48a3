"""The starting configs of `silogen init`: a YAML text for each recipe, with places to fill in."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from string import Template
from typing import NamedTuple

from silogen_compiler.emit import as_yaml
from silogen_compiler.layers.extends import printable
from silogen_compiler.schema import FOLDER as SCHEMAS

FOLDER = Path(next(iter(__path__)))
EDITOR_SCHEMA = Path(SCHEMAS) / "silogen.schema.json"

# What a recipe ends with where several processes train.
LAUNCH = Template("""
launch:
  processes_per_node: $processes # one process a GPU, which `silogen train` starts
  strategy: ddp # the whole model on each GPU; fsdp or deepspeed share it among them
""")


class Recipe(NamedTuple):
    """What a recipe trains, the total batch it aims at, what fits on a device, and its data file."""

    text: str
    total_batch: int
    per_device: int
    data: str = "data/train.jsonl"


RECIPES = {
    "sft-full": Recipe("supervised fine-tuning of all weights", 32, 2),
    "sft-lora": Recipe("supervised fine-tuning of a LoRA adapter", 32, 4),
    "sft-qlora": Recipe("supervised fine-tuning of a LoRA adapter on a 4-bit model", 32, 4),
    "dpo-lora": Recipe("preference optimization of a LoRA adapter", 16, 2, "data/pairs.jsonl"),
}


def write_recipe(recipe: str, name: str, *, model: str, data: str, gpus: int) -> str:
    """Return the config of a recipe as the file `name`, for `gpus` GPUs, where 0 is the CPU.

    It compiles without findings.
    """
    chosen, processes = RECIPES[recipe], max(gpus, 1)
    shown = quote(printable(name))
    values = {
        "schema": schema_address(name),
        "name": shown,
        "launch": LAUNCH.substitute(processes=gpus) if gpus > 1 else "",
        "model": as_yaml(model),
        "data": as_yaml(data or chosen.data),
        "output": as_yaml(f"output/{Path(name).stem}"),
        "total": str(total_batch(chosen.total_batch, processes)),
        "most": str(chosen.per_device),
        "bf16": "true" if gpus else "false",
        "compute": "bfloat16" if gpus else "float32",
    }
    return Template((FOLDER / f"{recipe}.yaml").read_text("utf-8")).substitute(values)


def total_batch(wanted: int, processes: int) -> int:
    """Return a total batch of about the size that is wanted: a power of two for each process."""
    share = max(wanted // processes, 1)
    return processes * (1 << (share.bit_length() - 1))


def schema_address(name: str) -> str:
    """Return what an editor finds the installed schema by, from the config `name`.

    It is a relative path where the schema lies below the working directory, as with a `.venv` there, so that
    it is right for others too; elsewhere it is the address of the file.
    """
    schema, folder = EDITOR_SCHEMA.resolve(), Path(name).resolve().parent
    relative = os.path.relpath(schema, folder)
    is_near = schema.is_relative_to(Path.cwd()) and " " not in relative
    return Path(relative).as_posix() if is_near else schema.as_uri()
