"""`silogen check --data`: what a person learns of the data before a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from silogen_compiler.cli import silogen
from tiny import LINES, PAIRS, config_of, conversation, write_lines


@pytest.fixture
def check(tmp_path, byte_level_model):
    """Return a function that checks lines of data with a config for them."""

    def checked(lines, *, template="chat-ml", **sections):
        path = lines if isinstance(lines, str) else write_lines(tmp_path / "data.jsonl", lines)
        config = config_of(tmp_path, path, byte_level_model, template)
        config["sft_args"] = {"max_seq_length": 80, "train_on_completions_only": True}
        config = {key: value for key, value in (config | sections).items() if value is not None}
        (tmp_path / "run.json").write_text(json.dumps(config))
        return CliRunner().invoke(silogen, ["check", "--data", str(tmp_path / "run.json")])

    return checked


def test_the_data_is_told_in_numbers(check, tmp_path):
    result = check([*LINES, conversation("a " * 200, "b"), conversation("Hello?")])
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}/data.jsonl\n  18 examples, " in result.stdout
    assert (
        "0 bad lines, 0 without exactly one BOS, 1 too long (5.6%), 1 with nothing to learn" in result.stdout
    )
    assert re.search(r"^tokens an example, longest 2\d\d, limit 80$", result.stdout, re.MULTILINE)
    assert result.stdout.count("█") >= 40
    assert "training  16 examples (1 too long, 1 with nothing to learn: left out)" in result.stdout
    assert "  [[The capital of Finland is Helsinki.<|im_end|>]]" in result.stdout
    assert "warning[SG605]" in result.stderr


def test_bars_fit_a_narrow_terminal(check, monkeypatch):
    monkeypatch.setenv("COLUMNS", "44")
    bars = [line for line in check(LINES).stdout.splitlines() if "█" in line]
    assert max(map(len, bars)) in range(40, 45)


def test_unknown_tokens_are_counted(check, tmp_path, bos_model):
    model = shutil.copytree(bos_model, tmp_path / "model")
    written = json.loads((model / "tokenizer.json").read_text())
    written["model"]["byte_fallback"] = False
    (model / "tokenizer.json").write_text(json.dumps(written))
    lines = [conversation("x", "Helsinki \u2603 \u2603"), conversation("x", "Helsinki")]
    assert "2 unknown tokens" in check(lines, template="poro", run_conf={"model": str(model)}).stdout


def test_every_bad_line_is_told_beside_what_is_left(check):
    result = check([*LINES, {"messages": []}, {"text": "x"}])
    assert result.exit_code == 1
    assert "2 bad lines" in result.stdout
    assert "training  16 examples" in result.stdout
    assert result.stderr.count("error[SG603]") == 3
    assert "data.jsonl:17:1" in result.stderr


def test_preferences_are_checked_too(check):
    result = check(PAIRS, method="dpo", template="keep-original", sft_args=None)
    assert result.exit_code == 0, result.output
    assert "  ((Five.<|endoftext|>))" in result.stdout


def test_data_that_leaves_nothing_is_an_error(check):
    result = check([conversation("a " * 200, "b")])
    assert result.exit_code == 1
    assert "error[SG610]" in result.stderr


def test_a_missing_file_is_an_error(check, tmp_path):
    result = check(f"{tmp_path}/nowhere.jsonl")
    assert result.exit_code == 1
    assert "error[SG706]" in result.stderr


def test_configs_with_errors_are_not_read(check):
    result = check(LINES, data_conf={})
    assert result.exit_code == 1
    assert "examples" not in result.stdout


def test_checking_without_data_loads_no_runtime(tmp_path):
    (tmp_path / "run.yaml").write_text("method: sft\n")
    code = "import sys; from silogen_compiler.cli import silogen\n"
    code += "try: silogen()\nexcept SystemExit: print('silogen_runtime' in sys.modules)"
    command = [sys.executable, "-c", code, "check", str(tmp_path / "run.yaml")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
