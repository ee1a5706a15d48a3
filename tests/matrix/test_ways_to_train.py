"""Every way to train trains, or is refused with its code; `make test-all` tries all, `make test` a few."""

from __future__ import annotations

import math

import pytest
from cells import refusals
from configs import STEPS

pytestmark = pytest.mark.xdist_group("matrix")  # which share what trains the cells


def test_the_matrix(worlds, cell):
    results = worlds.result(cell)
    for result in results:
        assert {*result["refused"]} == refusals(cell), result.get("why")
    if not refusals(cell):
        check_training(results)
        check_losses(worlds, cell, results[0]["losses"])


def check_training(results):
    """Hold that all processes trained to the same weights, all of which moved, and that they load again."""
    assert {result["steps"] for result in results} == {STEPS}
    assert all(result["unchanged"] == [] for result in results)
    assert len({result["digest"] for result in results}) == 1
    assert results[0]["loaded"]


def check_losses(worlds, cell, losses):
    """Hold that the losses are numbers, and those of one process, where that trains the cell too."""
    assert len(losses) == STEPS
    assert all(math.isfinite(loss) for loss in losses)
    alone = cell._replace(strategy="single")
    if alone in worlds.cells:
        assert losses == pytest.approx(worlds.result(alone)[0]["losses"], rel=1e-5)
