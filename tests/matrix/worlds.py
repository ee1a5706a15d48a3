"""Starts processes that train cells, and reads what they say of each, as soon as it is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cells import ALONE, PAIRS, SHARDED
from extensions import VARIABLES, build_extensions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cells import Cell

    Result = dict[str, Any]

SCRIPT = str(Path(__file__).with_name("world.py"))
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
PATIENCE = 900  # seconds for one cell, and the imports before the first

# What trains in one group of processes; strategies that no process can train with need no group.
GROUPS = ((*ALONE, *SHARDED), *((strategy,) for strategy in PAIRS))


class World:
    """A group of processes that trains some cells in order."""

    def __init__(self, cells: Sequence[Cell], folder: Path, shared: Path) -> None:
        folder.mkdir()
        (folder / "cells.json").write_text(json.dumps(cells))
        self.ranks = 1 + (cells[0].strategy in PAIRS)
        self.results = [folder / f"{rank}.jsonl" for rank in range(self.ranks)]
        self.log = (folder / "log").open("w+")
        command = (*(TORCHRUN if self.ranks > 1 else ()), SCRIPT, folder / "cells.json", shared, folder)
        environment = {**os.environ, **VARIABLES, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        if cells[0].strategy.startswith("zero") and self.ranks > 1 and find_spec("deepspeed"):
            build_extensions()
        self.process = subprocess.Popen(
            (sys.executable, *command), env=environment, stdout=self.log, stderr=subprocess.STDOUT
        )

    def result(self, cell: Cell) -> list[Result]:
        """Wait for what each process says of the cell."""
        end = time.monotonic() + PATIENCE
        while not all(found := [self.said(path, cell) for path in self.results]):
            running = self.process.poll() is None and time.monotonic() < end
            assert running or all(self.said(path, cell) for path in self.results), self.printed()
            time.sleep(0.05)
        return found

    @staticmethod
    def said(path: Path, cell: Cell) -> Result | None:
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = (json.loads(line) for line in lines if line.endswith("\n"))
        return next((result for result in whole if result["cell"] == str(cell)), None)

    def printed(self) -> str:
        self.log.seek(0)
        return f"the processes said nothing of this cell; they printed:\n{self.log.read()[-3000:]}"

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


class Worlds:
    """One world after the other, the first at once, each other when the first of its cells is asked for."""

    def __init__(self, cells: Sequence[Cell], folder: Path, shared: Path) -> None:
        self.cells, self.folder, self.shared = cells, folder, shared
        self.started: dict[tuple[str, ...], World] = {}
        for cell in cells[:1]:
            self.world_of(cell)

    def world_of(self, cell: Cell) -> World:
        group = next(group for group in GROUPS if cell.strategy in group)
        if group not in self.started:
            ours = [other for other in self.cells if other.strategy in group]
            self.started[group] = World(ours, self.folder / group[0], self.shared)
        return self.started[group]

    def result(self, cell: Cell) -> list[Result]:
        return self.world_of(cell).result(cell)

    def end(self) -> None:
        for world in self.started.values():
            world.end()
