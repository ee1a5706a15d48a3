"""Which adapters read quantized weights: they train as on the same weights turned back into whole numbers."""

from __future__ import annotations

import pytest
import torch
from cells import Cell
from configs import PEFTS, QUANTIZATIONS
from silogen_compiler.rules import peft
from silogen_runtime import train as story
from test_adapters import KWARGS, UNTRAINABLE, case
from tiny import ARGS
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from world import Watched, run

pytestmark = pytest.mark.xdist_group("matrix")  # which share what trains the cells

READS_WEIGHTS = dict(peft.READS_WEIGHTS)
WIDTHS = {4: "4-bit", 8: "8-bit"}
RATE = 0.001  # at which a tiny model does not amplify what rounding changes


def pytest_generate_tests(metafunc):
    wide = metafunc.config.getoption("--wide")
    types = [name for name in KWARGS if name not in UNTRAINABLE] if wide else ["UNILORA"]
    metafunc.parametrize("peft_type", [case(name) for name in types])


@pytest.fixture(scope="module")
def whole(shared, tmp_path_factory):
    """Return the paths of the model, and of it with its weights quantized to each width and turned back."""
    folders = {width: tmp_path_factory.mktemp(f"from-{width}") for width in WIDTHS.values()}
    return shared | {width: turned_back(shared["known"], width, folders[width]) for width in folders}


def turned_back(path, width, folder):
    arguments = {key: value for key, value in QUANTIZATIONS[width].items() if key.startswith("load_in")}
    quantization = BitsAndBytesConfig(**arguments)
    model = AutoModelForCausalLM.from_pretrained(path, quantization_config=quantization)
    model.dequantize(dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(path).save_pretrained(folder)
    return str(folder)


def test_an_adapter_that_reads_quantized_weights_is_legal(monkeypatch, whole, tmp_path, peft_type):
    monkeypatch.setitem(PEFTS, peft_type, {"peft_type": peft_type, "peft_kwargs": KWARGS[peft_type]})
    monkeypatch.setitem(ARGS, "learning_rate", RATE)
    monkeypatch.setattr(peft, "READS_WEIGHTS", {})
    monkeypatch.setattr(story, "build_trainer", watched := Watched())

    def trained(quantization, model):
        cell = Cell("sft", peft_type, quantization, "keep-original", "single", model)
        return run(cell, whole, tmp_path / f"{quantization}-{model}", watched)

    results = {bits: (trained(width, "known"), trained("none", width)) for bits, width in WIDTHS.items()}
    unread = tuple(bits for bits, (quantized, plain) in results.items() if not alike(quantized, plain))
    assert unread == READS_WEIGHTS.get(peft_type, ()), results


def alike(quantized, plain):
    """Tell whether the same weights moved, to losses within 0.5 %.

    Those of adapters that read the weights agree to 0.05 %; those of others are 1.8 % off and more.
    """
    if quantized["refused"]:
        return False
    losses = quantized["losses"] == pytest.approx(plain["losses"], rel=0.005)
    return losses and quantized["unchanged"] == plain["unchanged"]
