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

OUTCOMES = ("trained", "refused", "failed")


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


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Leave out the pictures of a run, which take longer than its training."""
    for name in ("draw_loss", "write_report"):
        monkeypatch.setattr(f"silogen_runtime.report.{name}", lambda *_, **__: None)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    return write_shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session", autouse=True)
def worlds(request, tmp_path_factory, shared):
    """Return the worlds that train all cells that were asked for; the first trains beside other tests."""
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "shared.json").write_text(json.dumps(shared))
    parameters = [getattr(item, "callspec", None) for item in request.session.items]
    cells = [spec.params["cell"] for spec in parameters if spec and "cell" in spec.params]
    worlds = Worlds(cells, folder, folder / "shared.json")
    yield worlds
    worlds.end()


def pytest_terminal_summary(terminalreporter, config):
    """Print how many cells trained, were refused, and failed, by strategy."""
    if not config.getoption("--wide"):
        return
    counts = Counter(outcomes(terminalreporter))
    terminalreporter.section("cells")
    terminalreporter.line(" " * 8 + "".join(f"{name:>9}" for name in OUTCOMES))
    for strategy in AXES["strategy"]:
        row = "".join(f"{counts[strategy, name]:>9}" for name in OUTCOMES)
        terminalreporter.line(f"{strategy:8}{row}")


def outcomes(terminalreporter):
    """Yield the strategy of each cell, and what came of it."""
    for category in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(category):
            match = re.search(r"test_the_matrix\[(.*)\]", report.nodeid)
            if match and (report.when == "call" or category == "error"):
                cell = Cell(*match[1].split(":"))
                expected = "refused" if refusals(cell) else "trained"
                yield cell.strategy, expected if category == "passed" else "failed"
