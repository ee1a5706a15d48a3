"""Which cells are tested: a few, or all of them with `--wide`."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections import Counter

import pytest
import torch
from paths import ROOT

os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="silogen-tests-"))
sys.path.append(str(ROOT / "tests" / "runtime"))

from cells import ALONE, AXES, SHARDED, Cell, covering, every_cell, refusals
from configs import write_shared
from worlds import Worlds


def pytest_configure(config):
    torch.set_num_threads(1)
    config.addinivalue_line(
        "filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
    )


def pytest_generate_tests(metafunc):
    if "cell" in metafunc.fixturenames:
        cells = every_cell()
        if not metafunc.config.getoption("--wide"):
            cells = covering(cell for cell in cells if cell.strategy in (*ALONE, *SHARDED))
        metafunc.parametrize("cell", cells, ids=str)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    return write_shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def worlds(request, tmp_path_factory, shared):
    """Return the worlds that train all cells that were asked for."""
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "shared.json").write_text(json.dumps(shared))
    parameters = [getattr(item, "callspec", None) for item in request.session.items]
    cells = [spec.params["cell"] for spec in parameters if spec and "cell" in spec.params]
    worlds = Worlds(cells, folder, folder / "shared.json")
    yield worlds
    worlds.end()


def pytest_terminal_summary(terminalreporter):
    """Print how many cells trained, were refused, and failed, by strategy."""
    counts = Counter()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            match = re.search(r"test_the_matrix\[(.*)\]", report.nodeid)
            if match and (report.when == "call" or outcome == "error"):
                cell = Cell(*match[1].split(":"))
                legal = "refused" if refusals(cell) else "trained"
                counts[cell.strategy, legal if outcome == "passed" else "failed"] += 1
    if counts:
        columns = ("trained", "refused", "failed")
        terminalreporter.section("cells")
        terminalreporter.line(f"{'':8}" + "".join(f"{name:>9}" for name in columns))
        for strategy in AXES["strategy"]:
            row = "".join(f"{counts[strategy, name]:>9}" for name in columns)
            terminalreporter.line(f"{strategy:8}{row}")
