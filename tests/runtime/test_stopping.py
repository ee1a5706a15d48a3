"""A signal saves a checkpoint at the end of the step, from which the run goes on to the same weights."""

from __future__ import annotations

import signal

import psutil
import pytest
from silogen_runtime import signals
from silogen_runtime.progress import ProgressLine
from silogen_runtime.signals import Signals, Stopped
from test_resume import SPLIT, resume, weights, with_args
from tiny import LORA, losses

# The first evaluation stays the best one.
BEST = {
    "save_strategy": "best",
    "metric_for_best_model": "eval_loss",
    "greater_is_better": True,
    "eval_strategy": "steps",
    "eval_steps": 1,
}


@pytest.fixture
def send(monkeypatch):
    """Return a function that has signals come in the midst of a step: {step: signals}."""
    plan = {}

    def raise_signals(*given, **_):
        state = given[2]
        for number in plan.get(state.global_step + 1, ()):
            signal.raise_signal(number)

    monkeypatch.setattr(ProgressLine, "on_step_begin", raise_signals, raising=False)
    return plan


def checkpoints(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("number", "step", "saving"),
    [
        (signal.SIGINT, 2, {"save_strategy": "no"}),
        (signal.SIGTERM, 3, {"save_strategy": "no"}),
        (signal.SIGTERM, 3, {"save_strategy": "steps", "save_steps": 3}),
        (signal.SIGTERM, 4, {"save_strategy": "epoch"}),
        (signal.SIGTERM, 2, BEST),
    ],
    ids=["within-an-epoch", "end-of-an-epoch", "when-a-save-is-due", "between-saves", "no-best-model"],
)
def test_a_stopped_run_goes_on_to_the_same_weights(resolve, run, tmp_path, send, number, step, saving):  # noqa: PLR0913, PLR0917
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    args = {"eval_strategy": "epoch", "max_steps": 7, **batch, **saving}
    config = resume(resolve(peft=LORA, data=SPLIT, args=args), how="auto")
    whole, _ = run(with_args(config, output_dir=str(tmp_path / "whole")))

    send[step] = [number]
    with pytest.raises(Stopped) as stopped:
        run(config)
    assert stopped.value.number == number
    assert checkpoints(tmp_path / "out")[-1] == f"checkpoint-{step}"
    assert len(losses(tmp_path / "out")) == step

    send.clear()
    rest, screen = run(config)
    assert f"7, from {step} on" in screen
    assert weights(rest.final_checkpoint) == weights(whole.final_checkpoint)
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")
    assert rest.validation_losses == whole.validation_losses


def test_a_signal_to_all_processes_leaves_those_that_load_data(resolve, run, tmp_path, monkeypatch):
    def stop_all(*given, **_):
        if given[2].global_step == 1:
            for child in psutil.Process().children(recursive=True):
                child.terminate()
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ProgressLine, "on_step_begin", stop_all, raising=False)
    with pytest.raises(Stopped):
        run(resolve(args={"dataloader_num_workers": 2}))
    assert checkpoints(tmp_path / "out") == ["checkpoint-2"]


def test_processes_that_load_data_may_be_started_anew(resolve, run, bos_model):
    loading = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn"}
    padding = {"missing_pad_token_strategy": "unk-convert-to-eos"}
    config = resolve(model=bos_model, template="keep-original", args={"max_steps": 1})
    config["tokenizer"] |= padding
    alone, _ = run(config)
    outcome, _ = run(with_args(config, **loading))
    assert outcome.losses == alone.losses


def test_a_signal_in_the_last_step_lets_the_run_end(resolve, run, tmp_path, send):
    send[2] = [signal.SIGTERM]
    outcome, _ = run(resolve(args={"max_steps": 2}))
    assert outcome.steps == 2
    assert checkpoints(tmp_path / "out") == ["checkpoint-final"]


def test_the_second_signal_stops_at_once(resolve, run, tmp_path, send, monkeypatch):
    monkeypatch.setattr(signals, "TOGETHER", -1)
    send[2] = [signal.SIGTERM, signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        run(resolve())
    assert checkpoints(tmp_path / "out") == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_comes_twice_at_once_is_one():
    heard = []
    with Signals(heard.append):
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_a_signal_that_is_ignored_stays_ignored():
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals(pytest.fail) as heard:
            signal.raise_signal(signal.SIGINT)
        assert heard.number == 0
    finally:
        signal.signal(signal.SIGINT, earlier)
