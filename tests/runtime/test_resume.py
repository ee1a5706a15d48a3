"""Resuming: from which checkpoint, and to the same weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from silogen_compiler.diagnostics import Refused
from silogen_runtime.progress import MetricsFile, ProgressLine
from tiny import LORA, losses

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
SPLIT = {"validation": {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 1}}  # leaves three steps an epoch

TRAIN = """
import json, sys
from rich.console import Console
from silogen_runtime.train import train
train(json.loads(sys.stdin.read()), console=Console())
"""


def weights(folder) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.glob("*.safetensors")))


def resume(config: dict, *, how: bool | str) -> dict:
    return {**config, "run": {**config["run"], "resume_from_checkpoint": how}}


def with_args(config: dict, **args) -> dict:
    return {**config, "trainer": {**config["trainer"], "args": {**config["trainer"]["args"], **args}}}


def names(folder) -> set[str]:
    return {path.name for path in folder.glob("*checkpoint-*")}


def logged(folder, key) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line[key] for line in lines if key in line}


def codes(findings) -> list[str]:
    return [finding.code for finding in findings]


@pytest.mark.parametrize(
    ("template", "peft", "quantization"),
    [
        ("chat-ml", None, None),
        ("chat-ml", LORA, None),
        ("keep-original", LORA, {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}),
        ("keep-original", LORA, {"load_in_8bit": True}),
    ],
    ids=["full", "lora-with-new-tokens", "4-bit", "8-bit"],
)
def test_a_resumed_run_ends_in_the_same_weights(  # noqa: PLR0913, PLR0917 - fixtures and cases
    resolve, run, tmp_path, bos_model, template, peft, quantization
):
    config = resolve(
        model=bos_model,
        template=template,
        peft=peft,
        quantization=quantization and {"class": "BitsAndBytesConfig", "kwargs": quantization},
        args=SAVING,
    )
    whole, _ = run(with_args(config, output_dir=str(tmp_path / "whole")))
    run(with_args(config, max_steps=4))
    rest, screen = run(resume(config, how=True))
    assert "6, from 4 on" in screen
    assert weights(rest.final_checkpoint) == weights(whole.final_checkpoint)
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


def test_a_killed_run_resumes_to_the_same_weights(resolve, run, tmp_path):
    config = resolve(peft=LORA, args={"save_strategy": "steps", "save_steps": 7, "max_steps": 60})
    whole, _ = run(with_args(config, output_dir=str(tmp_path / "whole")))

    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN], stdin=subprocess.PIPE, text=True, env=one_thread
    )
    process.stdin.write(json.dumps(config))
    process.stdin.close()
    metrics = tmp_path / "out" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 17):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "checkpoint-final").exists()

    rest, screen = run(resume(config, how="auto"))
    assert int(re.search(r"60, from (\d+) on", screen)[1]) in range(14, 60, 7)
    assert weights(rest.final_checkpoint) == weights(whole.final_checkpoint)
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


def test_a_run_goes_on_as_its_config_says(resolve, run, tmp_path):
    seldom = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 2, "lr_scheduler_type": "linear"}
    often = {"save_steps": 0.125, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 3}
    config = resolve(data=SPLIT, args={**seldom, "max_steps": 8})
    run(with_args(config, logging_steps=1, output_dir=str(tmp_path / "whole")))
    run(with_args(config, max_steps=4))
    run(resume(with_args(config, **often), how="auto"))
    out = tmp_path / "out"
    assert names(out) == {f"checkpoint-{step}" for step in (2, 4, 5, 6, 7, 8, "final")}
    assert logged(out, "eval_loss").keys() >= {6}
    rates, planned = (logged(folder, "learning_rate") for folder in (out, tmp_path / "whole"))
    assert rates.keys() == {2, 4, 5, 6, 7, 8}
    assert [rates[step] for step in (5, 6, 7, 8)] == [planned[step] for step in (5, 6, 7, 8)]


def test_another_metric_seeks_the_best_model_from_there_on(resolve, run, tmp_path):
    every = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    config = resolve(data=SPLIT, args={**every, **best, "max_steps": 6})
    run(config)
    for name in ("checkpoint-6", "checkpoint-final"):
        shutil.rmtree(tmp_path / "out" / name)
    other = {"metric_for_best_model": "mean_token_accuracy", "greater_is_better": True}
    _, screen = run(resume(with_args(config, **other), how="auto"))
    assert "the best model is sought from here on" in screen
    state = json.loads((tmp_path / "out" / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_metric"] == logged(tmp_path / "out", "eval_mean_token_accuracy")[6]
    assert state["best_global_step"] == 6


def test_the_same_metric_by_another_name_keeps_the_best_model(resolve, run, tmp_path):
    every = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    worst = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    config = resolve(data=SPLIT, args={**every, **worst, "max_steps": 4})
    run(config)
    _, screen = run(resume(with_args(config, metric_for_best_model="eval_loss", max_steps=6), how="auto"))
    assert "the best model is sought" not in screen
    state = json.loads((tmp_path / "out" / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_global_step"] == 2


def test_false_starts_anew_and_says_what_is_left_over(resolve, run, tmp_path):
    config = resolve(args=SAVING)
    first, _ = run(config)
    stale = tmp_path / "out" / "checkpoint-4" / "model-00002-of-00002.safetensors"
    stale.write_text("of another model")
    again, screen = run(config)
    assert not stale.exists()
    assert codes(first.warnings) == []
    assert codes(again.warnings) == ["SG710"]
    assert "warning[SG710]" in screen
    assert len(losses(tmp_path / "out")) == 6


def test_auto_goes_on_from_the_last_run_though_an_earlier_one_got_further(resolve, run, tmp_path):
    config = resolve(args=SAVING)
    run(config)
    run(with_args(config, max_steps=2))
    later = tmp_path / "out" / "checkpoint-6"
    with pytest.raises(
        Refused, match=r"SG708: .*checkpoint-6`: it is of an earlier run; rename earlier_trai"
    ):
        run(resume(config, how=str(later)))
    _, screen = run(resume(with_args(config, max_steps=3), how="auto"))
    assert "3, from 2 on" in screen
    (later / "earlier_trainer_state.json").rename(later / "trainer_state.json")
    assert "6, from 6 on" in run(resume(config, how=str(later)))[1]


def test_true_needs_a_checkpoint(resolve, run):
    with pytest.raises(Refused, match="SG708: resume_from_checkpoint is true"):
        run(resume(resolve(), how=True))


def test_auto_starts_anew_without_one(resolve, run):
    outcome, _ = run(resume(resolve(args={"max_steps": 1}), how="auto"))
    assert outcome.steps == 1
    assert not outcome.warnings


def test_a_path_picks_a_checkpoint(resolve, run, tmp_path):
    config = resolve(args=SAVING)
    whole, _ = run(config)
    expected = weights(whole.final_checkpoint)
    rest, screen = run(resume(config, how=str(tmp_path / "out" / "checkpoint-2")))
    assert "6, from 2 on" in screen
    assert weights(rest.final_checkpoint) == expected
    with pytest.raises(Refused, match=r"SG708: can't resume from .*there is no such folder"):
        run(resume(config, how=str(tmp_path / "out" / "checkpoint-3")))


def cut(file, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def test_auto_goes_on_from_the_newest_complete_checkpoint(resolve, run, tmp_path):
    config = resolve(args=SAVING)
    whole, _ = run(config)
    expected = weights(whole.final_checkpoint)
    cut(tmp_path / "out" / "checkpoint-6" / "optimizer.pt", -100)
    rest, screen = run(resume(config, how="auto"))
    assert codes(rest.warnings) == ["SG709"]
    assert "6, from 4 on" in screen
    assert weights(rest.final_checkpoint) == expected


def test_a_checkpoint_without_the_optimizer_is_told(resolve, run, tmp_path):
    config = resolve(args={**SAVING, "save_only_model": True, "max_steps": 2})
    run(config)
    for how in (True, str(tmp_path / "out" / "checkpoint-2")):
        rest, screen = run(resume(with_args(config, max_steps=3), how=how))
        assert codes(rest.warnings) == ["SG732"]
        assert "3, from 2 on" in screen
    with pytest.raises(Refused, match=r"SG709: .*optimizer.pt is missing.*SG708"):
        run(resume(with_args(config, save_only_model=False), how=True))


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "[]",
        '{"a": 1}',
        '{"step": "x"}',
        '{"step": 1, "loss": "x"}',
        '{"step": 1, "part": "x"}',
        "\udcff",
    ],
)
def test_a_damaged_line_of_the_metrics_is_left_out(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f'{{"step": 1, "loss": 2.0}}\n{line}\n'.encode(errors="surrogateescape"))
    MetricsFile(path, resumed_step=5)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


def test_metrics_keep_what_the_checkpoint_knows(resolve, run, tmp_path):
    config = resolve(args=SAVING)
    run(config)
    metrics = tmp_path / "out" / "metrics.jsonl"
    before = metrics.read_text().splitlines()
    with metrics.open("a") as file:
        file.write('{"step": 7, "lo')  # the process died while it wrote
    run(resume(config, how=str(tmp_path / "out" / "checkpoint-4")))
    after = metrics.read_text().splitlines()
    assert after[:4] == before[:4]
    assert [json.loads(line)["step"] for line in after if '"loss"' in line] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "args",
    [{"max_steps": 6}, {"max_steps": -1, "num_train_epochs": 2}, {"lr_scheduler_type": "polynomial"}],
    ids=["steps", "epochs", "polynomial"],
)
def test_a_finished_run_stays_as_it_is(resolve, run, args):
    config = resolve(args={**SAVING, **args})
    whole, _ = run(config)
    expected = weights(whole.final_checkpoint)
    again, _ = run(resume(config, how="auto"))
    assert again.steps == whole.steps
    assert weights(again.final_checkpoint) == expected


@pytest.fixture
def _slow(monkeypatch):
    """Let hours pass between what a run writes, so that files can be told apart by their times."""
    times = iter(range(0, 10**9, 3600))

    def on_save(*given, **_):
        out, now = Path(given[1].output_dir), next(times)
        for path in [path for path in out.glob("checkpoint-*") if path.stat().st_mtime > 10**9]:
            os.utime(path, (now, now))

    monkeypatch.setattr(ProgressLine, "on_save", on_save, raising=False)


@pytest.mark.usefixtures("_slow")
def test_a_limit_of_checkpoints_spares_the_base_and_the_trained_model(resolve, run, bos_model, tmp_path):
    args = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "save_total_limit": 2}
    config = resolve(model=bos_model, peft=LORA, args=args)
    run(config)
    others = {"checkpoint-new-basemodel", "checkpoint-final"}
    assert names(tmp_path / "out") == {"checkpoint-2", "checkpoint-3", *others}
    final = tmp_path / "out" / "checkpoint-final"
    long_ago = time.time() - 2592000
    os.utime(final, (long_ago, long_ago))

    def lost(*_, **__):
        assert final.exists()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressLine, "on_step_begin", lost, raising=False)
        run(resume(with_args(config, max_steps=5), how="auto"))
    assert names(tmp_path / "out") == {"checkpoint-4", "checkpoint-5", *others}


def test_the_best_checkpoint_is_among_those_that_are_kept(resolve, run, tmp_path):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    args = {**SAVING, "eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 2, **best}
    run(resolve(data=SPLIT, args=args))
    assert names(tmp_path / "out") == {"checkpoint-2", "checkpoint-6", "checkpoint-final"}
