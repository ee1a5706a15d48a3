"""Which adapters read quantized weights: those train as on whole ones, and the others are refused."""

from __future__ import annotations

import pytest
from cells import Cell
from configs import PEFTS
from silogen_compiler.rules import peft
from silogen_runtime import train as story
from test_adapters import KWARGS, UNTRAINABLE, case
from world import Watched, run

pytestmark = pytest.mark.xdist_group("matrix")  # which share what trains the cells

READS_WEIGHTS = dict(peft.READS_WEIGHTS)


def pytest_generate_tests(metafunc):
    wide = metafunc.config.getoption("--wide")
    types = [name for name in KWARGS if name not in UNTRAINABLE] if wide else ["UNILORA"]
    metafunc.parametrize("peft_type", [case(name) for name in types])


def test_an_adapter_that_reads_quantized_weights_is_legal(monkeypatch, shared, tmp_path, peft_type):
    monkeypatch.setitem(PEFTS, peft_type, {"peft_type": peft_type, "peft_kwargs": KWARGS[peft_type]})
    monkeypatch.setattr(peft, "READS_WEIGHTS", {})
    monkeypatch.setattr(story, "build_trainer", watched := Watched())
    whole, four, eight = (
        run(
            Cell("sft", peft_type, quantization, "keep-original", "single", "known"),
            shared,
            tmp_path / quantization,
            watched,
        )
        for quantization in ("none", "4-bit", "8-bit")
    )
    unread = tuple(width for width, result in ((4, four), (8, eight)) if not trains_alike(result, whole))
    assert unread == READS_WEIGHTS.get(peft_type, ()), (four, eight)


def trains_alike(quantized, whole):
    """Tell whether the same weights moved, to losses that differ no more than quantization explains."""
    if quantized["refused"]:
        return False
    alike = quantized["losses"] == pytest.approx(whole["losses"], rel=0.1)
    return alike and quantized["unchanged"] == whole["unchanged"]
