"""benchmarks/gpu_speed.py as far as it goes without a GPU; `--device cpu --shape tiny` runs the rest."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from click.testing import CliRunner
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import gpu_speed
from material import Run

RUN = Run("full", "model", "data", "out", steps=20, batch=2)
RESULT = {
    "seconds": [1.0] * 10 + [0.5] * 10,
    "tokens": {"10": 1000, "20": 3000},
    "memory": 2e9,
    "losses": [1],
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures where there is a GPU")
def test_without_a_gpu_one_line_says_so():
    result = CliRunner().invoke(gpu_speed.main, [])
    assert result.exit_code == 0
    assert result.output.startswith("no GPU here, so nothing is measured")
    assert result.output.count("\n") == 1


def test_a_token_needs_what_the_formula_says():
    parameters = 1_235_814_400 - 33 * 2048  # of Llama 3.2 1B as its authors publish it, without norms
    assert gpu_speed.flops("1b", "full", 0) == 6 * parameters
    assert gpu_speed.flops("1b", "lora", 0) == 4 * parameters
    assert gpu_speed.flops("1b", "full", 100) - gpu_speed.flops("1b", "full", 0) == 12 * 16 * 2048 * 100


def test_figures_leave_out_the_first_steps(tmp_path):
    row = gpu_speed.figures(RESULT, RUN, "silogen", "1b", "NVIDIA H100 80GB HBM3")
    assert row["tokens_per_second"] == 2000 / 5
    assert row["utilisation"] == pytest.approx(400 * gpu_speed.flops("1b", "full", 100) / 989e12)
    assert gpu_speed.figures(RESULT, RUN, "silogen", "1b", "CPU")["utilisation"] is None
    gpu_speed.save(tmp_path, "NVIDIA H100 80GB HBM3", [row], "| a |", {"shape": "1b"})
    saved = json.loads((tmp_path / "nvidia-h100-80gb-hbm3.json").read_text())
    assert saved["runs"] == [row]
    assert "shape 1b" in (tmp_path / "nvidia-h100-80gb-hbm3.md").read_text()
