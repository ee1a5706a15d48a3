"""`silogen train --dry-run`: what a run would take, and nothing left behind."""

from __future__ import annotations

import io
import re
import tempfile

import numpy as np
import pytest
from click.testing import CliRunner
from datasets import Dataset
from rich.console import Console
from silogen_compiler.diagnostics import Refused
from silogen_compiler.emit import add_digest, emit_json
from silogen_runtime.cli import train_command
from silogen_runtime.dry_run import Stopwatch, dry_run, duration, lengths_of, longest_of
from tiny import LINES, LORA, conversation, resolved_preferences

FOUR_BITS = {
    "class": "BitsAndBytesConfig",
    "kwargs": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
}
LONG = conversation("Write f.", "word " * 20)
VALIDATION = {"validation": {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 1}}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a function that lists all files and folders here, with those that a run makes for itself."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return lambda: {*tmp_path.rglob("*")}


@pytest.fixture
def try_out(files):
    """Return a function that dry-runs a resolved config, and returns what it printed."""

    def start(resolved):
        before, screen = files(), io.StringIO()
        dry_run(resolved, console=Console(file=screen, width=120))
        assert files() == before
        return screen.getvalue()

    return start


def rows(screen):
    """Return the rows of the last table by name."""
    return dict(re.findall(r"^(\w[\w ]*?)  +(.*?) *$", screen, re.MULTILINE))


@pytest.mark.parametrize(
    ("peft", "quantization"), [(None, None), (LORA, None), (LORA, FOUR_BITS)], ids=["full", "lora", "4-bit"]
)
def test_every_kind_of_training(resolve, try_out, peft, quantization):
    config = resolve(lines=[*LINES, LONG], peft=peft, quantization=quantization)
    told = rows(try_out(config))
    assert {"loading", "longest", "step", "peak memory", "estimate"} <= set(told)
    assert "8 steps" in told["estimate"]
    assert "validation" not in told


def test_the_longest_examples_are_trained_and_validated_on(resolve, try_out, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Stopwatch, "on_train_end", lambda *_, train_dataloader, **__: seen.append(train_dataloader.dataset)
    )
    lines = [*LINES[:12], LONG, *LINES[:4], LONG]
    validation = {"eval_strategy": "steps", "eval_steps": 4, "per_device_eval_batch_size": 1}
    told = rows(try_out(resolve(lines=lines, data=VALIDATION, args=validation)))
    trained = lengths_of(seen[0])
    assert trained.max() == int(told["longest"].split()[0])
    assert len(trained) == 2 * 4
    assert {*trained[:4]} == {*trained[4:]}
    assert "1 example, the longest of" in told["validation"]


def test_a_step_is_measured_by_two_batches_and_told_in_full(resolve, try_out, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Stopwatch, "on_train_end", lambda _, args, state, *__, **___: seen.append((args, state))
    )
    told = rows(try_out(resolve(args={"per_device_train_batch_size": 1, "gradient_accumulation_steps": 5})))
    ((args, state),) = seen
    assert (args.gradient_accumulation_steps, state.global_step) == (2, 2)
    assert told["step"].split(": ")[1].startswith("5 x ")
    assert "of 5 examples each" in told["steps"]


def test_preferences(tmp_path, byte_level_model, try_out):
    args = {"per_device_train_batch_size": 2, "eval_strategy": "epoch"}
    config = resolved_preferences(tmp_path, model=byte_level_model, args=args, data=VALIDATION)
    told = rows(try_out(config))
    assert {"step", "validation", "peak memory", "estimate"} <= set(told)


def test_packed_examples(resolve, try_out):
    told = rows(try_out(resolve(args={"dataset_kwargs": None, "packing": True, "packing_strategy": "bfd"})))
    assert int(told["longest"].split()[0]) > 200


def test_a_base_model_that_grows_is_not_saved(resolve, try_out, bos_model):
    run = {"save_name_if_new_basemodel": "grown"}
    try_out(resolve(model=bos_model, peft=LORA, run=run))


def test_a_run_that_ends_early_is_measured_all_the_same(resolve, try_out):
    told = rows(try_out(resolve(args={"max_steps": 1, "save_strategy": "steps", "save_steps": 1})))
    assert "for 1 step " in told["estimate"]


def test_what_the_run_would_be_refused_for(resolve, try_out):
    config = resolve()
    config["data"]["train"]["datasets"][0]["path"] = "missing.jsonl"
    with pytest.raises(Refused, match="SG706"):
        try_out(config)


def test_running_out_of_memory_is_a_finding(resolve, try_out, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Stopwatch, "on_pre_optimizer_step", fail)
    with pytest.raises(Refused, match="SG718"):
        try_out(resolve())


def test_the_command(resolve, tmp_path, files):
    path = tmp_path / "resolved.json"
    path.write_text(emit_json(add_digest(resolve()), {}))
    before = files()
    result = CliRunner().invoke(train_command, [str(path), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.stderr.endswith("it fits; nothing was saved\n")
    assert result.stdout == ""
    assert files() == before


def test_lengths():
    chat = Dataset.from_dict({"input_ids": [[1], [1, 2, 3], [1, 2]], "labels": [[1], [1, 2, 3], [1, 2]]})
    assert lengths_of(chat.select([2, 1])).tolist() == [2, 3]
    pairs = Dataset.from_dict(
        {"prompt_ids": [[1], [1, 1]], "chosen_ids": [[1], [1]], "rejected_ids": [[1, 1, 1], []]}
    )
    assert lengths_of(pairs).tolist() == [4, 3]
    assert longest_of(np.array([3, 9, 5]), 2).tolist() == [1, 2]
    assert longest_of(np.array([3, 9]), 5).tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "1 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3600, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (1e6, "11 d 14 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
