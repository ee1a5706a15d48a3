"""Trains one cell after the other, in each process of a group. `python world.py CELLS SHARED OUT`

CELLS and SHARED are JSON files: a list of cells, and the paths of what they share. Each process appends a
line for each cell to OUT/RANK.jsonl. To start a process for each cell would take ten times as long.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1] / "runtime"))

import torch
from accelerate.state import AcceleratorState
from cells import Cell
from configs import config_of
from peft import AutoPeftModelForCausalLM, get_peft_model_state_dict
from rich.console import Console
from silogen_compiler.diagnostics import Refused, has_errors
from silogen_compiler.pipeline import compile_data
from silogen_runtime import report
from silogen_runtime import train as story
from transformers import AutoModelForCausalLM

if TYPE_CHECKING:
    from silogen_runtime.trainer import Trainer

    Result = dict[str, Any]

RANK = os.environ.get("RANK", "0")
Weights = dict[str, torch.Tensor]


class Watched:
    """Trainers as they were built, each with a copy of the weights that it is about to train."""

    def __init__(self) -> None:
        self.build, self.trainer, self.start = story.build_trainer, None, {}

    def __call__(self, *parts: Any) -> Trainer:
        self.trainer = self.build(*parts)
        self.start = {name: weight.clone() for name, weight in trained(self.trainer.model).items()}
        return self.trainer


def trained(model: torch.nn.Module) -> Weights:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def run(cell: Cell, shared: dict[str, str], folder: Path, watched: Watched) -> Result:
    """Return the codes that the cell is refused with, or what its training came to."""
    compiled = compile_data(config_of(cell, shared, folder), environment={})
    if has_errors(compiled.diagnostics):
        return refused(compiled.diagnostics)
    try:
        outcome = story.train(compiled.resolved, console=Console(file=io.StringIO()))
    except Refused as error:
        return refused(error.diagnostics) | {"why": reasons(error)}
    weights = trained(watched.trainer.model)
    return {
        "refused": [],
        "steps": outcome.steps,
        "losses": outcome.losses,
        "unchanged": [name for name in weights if torch.equal(weights[name], watched.start[name])],
        "digest": digest(weights),
        "loaded": RANK != "0" or loads_back(watched.trainer, outcome.final_checkpoint),
    }


def refused(diagnostics: list[Any]) -> Result:
    errors = [finding for finding in diagnostics if finding.severity == "error"]
    return {"refused": [finding.code for finding in errors], "why": "\n".join(map(str, errors))}


def reasons(error: Refused) -> str:
    """Return the findings, and the failure of a library behind them."""
    return "".join(traceback.format_exception(error))[-3000:]


def digest(weights: Weights) -> str:
    return hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in weights.values())).hexdigest()


def loads_back(trainer: Trainer, folder: Path) -> bool:
    """Tell whether what was saved loads as the weights that were trained."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if (folder / "adapter_config.json").exists():
        loaded = get_peft_model_state_dict(AutoPeftModelForCausalLM.from_pretrained(folder))
        kept = get_peft_model_state_dict(model)
    else:
        loaded, kept = AutoModelForCausalLM.from_pretrained(folder).state_dict(), model.state_dict()
    return loaded.keys() == kept.keys() and all(torch.equal(loaded[name], kept[name]) for name in kept)


def main(cells: Path, shared: Path, out: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft's, while loading
    gc.freeze()  # what is imported is not searched for garbage again at the end of each training
    report.draw_loss = report.write_report = lambda *_, **__: None  # pictures take longer than the training
    watched = story.build_trainer = Watched()
    paths = json.loads(shared.read_text())
    with (out / f"{RANK}.jsonl").open("w", buffering=1) as results:
        for cell in (Cell(*axes) for axes in json.loads(cells.read_text())):
            folder = out / "run"
            try:
                result = run(cell, paths, folder, watched)
            except Exception:  # noqa: BLE001 - the cell fails, and the others go on
                result = {"refused": ["none"], "why": traceback.format_exc()[-3000:]}
            results.write(json.dumps({"cell": str(cell), **result}) + "\n")
            if RANK == "0":
                shutil.rmtree(folder, ignore_errors=True)
            if torch.distributed.is_initialized():
                torch.distributed.barrier()
            AcceleratorState._reset_state()  # noqa: SLF001 - a process trains once, everywhere else


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
