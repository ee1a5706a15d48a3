"""report.html: one page that tells how a run went, whatever the run was."""

from __future__ import annotations

import io
import json
import re
import time
from contextlib import nullcontext

import pytest
from rich.console import Console
from silogen_compiler.diagnostics import Refused
from silogen_runtime.progress import MetricsFile, reported
from silogen_runtime.train import train
from tiny import resolved_config, resolved_preferences
from transformers import TrainerState


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def draw(tmp_path):
    """Return a function that draws lines of metrics.jsonl, and returns the page."""

    def page(lines, *, resolve=resolved_config, steps=4, ends=None):
        resolved = resolve(tmp_path, model="org/model")
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        expected = pytest.raises(type(ends)) if ends else nullcontext()
        with expected, reported(tmp_path, resolved, steps):
            if ends:
                raise ends
        return (tmp_path / "report.html").read_text()

    return page


def step(number, **values):
    logged = {"loss": 2 / number, "learning_rate": 0.1, "grad_norm": 1.0}
    return {"step": number, **logged, "memory_gb": 0.5, "tokens_per_second": 10.0, **values}


def charts(page):
    return re.findall(r"<figcaption>(.*?)</figcaption><svg", page)


def figures(page):
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def verdict(page):
    return re.search(r'<p class="how">(.*?)</p>', page)[1]


EVERY = ["Loss", "Learning rate", "Gradient norm", "Throughput", "Memory"]


def test_a_page_needs_nothing_else_and_takes_the_colours_of_the_browser(draw):
    page = draw([step(1), step(2)])
    assert charts(page) == EVERY
    assert not re.search(r"(?:src|href)=\"(?!#)|@import|url\((?!#)", page)
    assert "prefers-color-scheme: dark" in page
    inks = {*re.findall(r"(?:fill|stroke): (#[0-9a-f]{6}|currentColor|var\(--\w+\))", page)}
    assert inks == {"#3b82c4", "currentColor", "var(--lines)"}


def test_validation_is_drawn_with_its_lowest(draw):
    page = draw([step(1), {"step": 1, "eval_loss": 1.0}, step(2), {"step": 2, "eval_loss": 3.0}])
    assert "validation, 3 at the end" in page
    assert figures(page)["validation loss"] == "1 → 3 (lowest 1 at step 1)"


def test_rewards_are_drawn_for_dpo(draw):
    rewards = {"rewards/margins": 0.1, "rewards/accuracies": 0.5}
    page = draw([step(1, **rewards), step(2, **rewards)], resolve=resolved_preferences)
    assert charts(page) == ["Loss", "Reward margin", "Reward accuracy", *EVERY[1:]]


@pytest.mark.parametrize(
    ("count", "ends", "said"),
    [
        (4, None, "Finished: 4 steps"),
        (2, KeyboardInterrupt(), "Stopped: 2 of 4 steps"),
        (2, Refused(), "Failed ()"),
        (2, RuntimeError("x"), "Failed: 2 of 4 steps"),
    ],
)
def test_the_page_tells_how_the_run_ended(draw, count, ends, said):
    lines = [step(number, seconds=number * 40.0) for number in range(1, count + 1)]
    page = draw(lines, ends=ends)
    assert verdict(page).startswith(said)
    assert verdict(page).endswith(" in 2 min 40 s" if count == 4 else " in 1 min 20 s")


def test_one_step_is_a_point(draw):
    page = draw([step(1)], steps=1)
    assert verdict(page) == "Finished: 1 step"
    assert figures(page)["loss"] == "2"
    assert charts(page) == EVERY


def test_a_run_that_logged_nothing_says_why(draw):
    page = draw([])
    assert charts(page) == []
    assert "fewer steps than <code>logging_steps</code>" in page


def test_the_parts_of_a_resumed_run_are_added(draw):
    counts = [(1, 10, 5.0), (2, 20, 9.0), (3, 10, 5.0), (4, 20, 10.0)]  # from step 3 on in a new process
    page = draw([step(number, num_tokens=tokens, seconds=s) for number, tokens, s in counts])
    assert figures(page)["tokens"] == "40"
    assert verdict(page).endswith(" in 19.0 s")


def test_a_part_counts_from_zero_though_it_begins_above_the_end_of_the_last(draw, tmp_path):
    path = tmp_path / "parts.jsonl"
    for number, tokens in ((1, 3000.0), (2, 1_000_000.0)):
        metrics = MetricsFile(path, resumed_step=number - 1)
        metrics.on_train_begin()
        metrics.on_log(None, TrainerState(global_step=number), None, logs={"num_tokens": tokens})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["part"] for line in lines] == [1, 2]
    assert figures(draw(lines))["tokens"] == "1,003,000"


def test_long_courses_are_smoothed(draw):
    page = draw([step(number) for number in range(1, 200)], steps=199)
    assert page.count("stroke-opacity: 0.35") == 3  # loss, gradient norm, speed


def test_the_speed_leaves_out_validation_and_saving(tmp_path, monkeypatch):
    clock, state = Clock(monkeypatch), TrainerState(global_step=1)
    metrics = MetricsFile(tmp_path / "metrics.jsonl", resumed_step=0)
    metrics.on_train_begin()
    for tokens in (100.0, 200.0):
        clock.now += 10
        metrics.on_step_end()
        metrics.on_log(None, state, None, logs={"loss": 1.0, "num_tokens": tokens})
        clock.now += 50
        metrics.on_evaluate()
        clock.now += 7
        metrics.on_save()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["tokens_per_second"] for line in lines] == [10.0, 10.0]
    assert [line["seconds"] for line in lines] == [10.0, 77.0]


class Interrupting(io.StringIO):
    def write(self, text):
        if "step 3/" in text:
            raise KeyboardInterrupt
        return super().write(text)


def test_a_stopped_run_has_its_page(resolve, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(resolve(), console=Console(file=Interrupting(), width=120))
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.fullmatch(r"Stopped: 3 of 8 steps in \d+\.\d s", verdict(page))
    assert "max_length: " in page


def test_a_report_that_fails_does_not_hide_how_the_run_ended(draw, tmp_path):
    (tmp_path / "loss.png").mkdir()
    with pytest.raises(Refused, match="SG723: is a directory"):
        draw([{"step": 1, "loss": 2.0}])
    with pytest.raises(FileNotFoundError):  # raised by the fixture as it looks for the page
        draw([{"step": 1, "loss": 2.0}], ends=KeyboardInterrupt())
