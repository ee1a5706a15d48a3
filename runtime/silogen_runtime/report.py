"""The picture of a finished run: loss.png."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from silogen_compiler.files import new_file

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from silogen_runtime.progress import Metrics

# What the loss of each method is.
LOSSES = {"sft": "loss (cross-entropy per token)", "dpo": "loss (of a pair of answers)"}

LINES = {"loss": ("training", "#2f6fb2"), "eval_loss": ("validation", "#d9742b")}


def draw_loss(metrics: list[Metrics], path: Path, name: str) -> None:
    """Draw training and validation loss, which is `name`, over the steps; nothing where none was logged."""
    curves = {key: [(line["step"], line[key]) for line in metrics if key in line] for key in LINES}
    if not any(curves.values()):
        return
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for key, points in curves.items():
        if points:
            _draw_line(axes, key, points)
    _label_axes(axes, name)
    with new_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_line(axes: Axes, key: str, points: list[tuple[int, float]]) -> None:
    name, colour = LINES[key]
    steps, losses = zip(*points, strict=True)
    marker = "o" if key == "eval_loss" or len(points) == 1 else None
    label = f"{name}, {losses[-1]:.3g} at the end"
    axes.plot(steps, losses, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)


def _label_axes(axes: Axes, loss: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(loss)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
