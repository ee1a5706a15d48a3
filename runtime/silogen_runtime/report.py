"""The pictures of a run: loss.png, and report.html with all that was logged."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from silogen_compiler.emit import emit_yaml
from silogen_compiler.files import new_file, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from silogen_runtime.progress import Metrics

BLUE, ORANGE = "#3b82c4", "#d9742b"  # to be read on white and on black
INK, LINES = "#123456", "#654321"  # stand in SVG for the colours of the page's text and lines
SMOOTH_FROM = 60  # points of a course that is smoothed
MARKED_UP_TO = 20  # points of a course whose points are marked
MARGINS = (0.85, 0.55, 0.15, 0.35)  # inches left, below, right and above of a chart, for its labels
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


class Chart(NamedTuple):
    """One picture of the report: its name, its axis, and the logged keys that it draws.

    `is_noisy` values are smoothed where there are many, and `from_zero` ones are amounts.
    """

    name: str
    axis: str
    lines: dict[str, tuple[str, str]]
    is_noisy: bool = True
    from_zero: bool = False


def both(key: str) -> dict[str, tuple[str, str]]:
    """Return the lines of a value that is logged in training and in validation."""
    return {key: ("training", BLUE), f"eval_{key}": ("validation", ORANGE)}


LOSS = Chart("Loss", "loss", both("loss"))
CHARTS = (
    Chart("Reward margin", "better minus worse", both("rewards/margins")),
    Chart("Reward accuracy", "share of pairs in order", both("rewards/accuracies")),
    Chart("Learning rate", "learning rate", {"learning_rate": ("", BLUE)}, is_noisy=False),
    Chart("Gradient norm", "norm before clipping", {"grad_norm": ("", BLUE)}),
    Chart("Throughput", "tokens a second", {"tokens_per_second": ("", BLUE)}, from_zero=True),
    Chart("Memory", "GB, of the first process", {"memory_gb": ("", BLUE)}, is_noisy=False, from_zero=True),
)

# What the loss of each method is.
LOSSES = {"sft": "loss (cross-entropy per token)", "dpo": "loss (of a pair of answers)"}


def draw_loss(metrics: list[Metrics], method: str, path: Path) -> None:
    """Draw training and validation loss over the steps; no picture where no loss was logged."""
    figure = _draw(LOSS._replace(axis=LOSSES[method]), metrics, (8, 4.5), ("#222222", "#dddddd"))
    if figure:
        with new_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)


def write_report(
    metrics: list[Metrics], resolved: dict[str, Any], path: Path, *, ended: str, steps: int
) -> None:
    """Write one HTML page that needs no other file: how it ended, key figures, charts, resolved config."""
    charts = [LOSS._replace(axis=LOSSES[resolved["method"]]), *CHARTS]
    pictures = [(chart.name, _as_svg(chart, metrics)) for chart in charts]
    versions = [f"{name} {version}" for name, version in resolved["target"].items() if name != "name"]
    processes = resolved["launch"]["world_size"]
    page = TEMPLATES.get_template("report.html.jinja").render(
        title=_title(resolved),
        verdict=_verdict(metrics, ended, steps),
        subtitle=", ".join(
            [f"{resolved['method']} with {processes} process{'es' * (processes > 1)}", *versions]
        ),
        figures=[(name, text) for name, figure in FIGURES.items() if (text := figure(metrics))],
        charts=[(name, picture) for name, picture in pictures if picture],
        config=emit_yaml(resolved, {}),
    )
    write_whole(path, page)


def _title(resolved: dict[str, Any]) -> str:
    model = resolved["model"]["from_pretrained"]["pretrained_model_name_or_path"]
    adapter = (resolved["peft"] or {}).get("class", "")
    return f"{model} with {adapter.removesuffix('Config')}" if adapter else str(model)


def _verdict(metrics: list[Metrics], ended: str, steps: int) -> str:
    """Return in one line how a run ended, how far it came, and how long it took."""
    done = max((line["step"] for line in metrics), default=0)
    far = f"{steps:,} step{'s' * (steps != 1)}" if done >= steps else f"{done:,} of {steps:,} steps"
    seconds = _total(metrics, "seconds")
    return f"{ended}: {far} in {_duration(seconds)}" if seconds else f"{ended}: {far}"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds) // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {round(seconds) % 60} s" if minutes else f"{seconds:.1f} s"


def _course(key: str) -> Callable[[list[Metrics]], str]:
    """Return what shows a value at its start and its end, and its lowest where that is another."""

    def figure(metrics: list[Metrics]) -> str:
        points = _points(metrics, key)
        if not points:
            return ""
        step, lowest = min(points, key=lambda point: point[1])
        if len(points) == 1:
            return f"{lowest:.4g}"
        best = f" (lowest {lowest:.4g} at step {step:,})" if "eval" in key and step < points[-1][0] else ""
        return f"{points[0][1]:.4g} → {points[-1][1]:.4g}{best}"

    return figure


def _tokens(metrics: list[Metrics]) -> str:
    tokens = _total(metrics, "num_tokens")
    return f"{tokens:,.0f}" if tokens else ""


def _speed(metrics: list[Metrics]) -> str:
    speeds = sorted(value for _, value in _points(metrics, "tokens_per_second"))
    return f"{speeds[len(speeds) // 2]:,.0f}" if speeds else ""


def _memory(metrics: list[Metrics]) -> str:
    points = _points(metrics, "memory_gb")
    return f"{max(value for _, value in points):.2f} GB" if points else ""


FIGURES = {
    "loss": _course("loss"),
    "validation loss": _course("eval_loss"),
    "reward margin": _course("rewards/margins"),
    "tokens": _tokens,
    "tokens a second (median)": _speed,
    "memory": _memory,
}


def _points(metrics: list[Metrics], key: str) -> list[tuple[int, float]]:
    return [(line["step"], line[key]) for line in metrics if _is_number(line.get(key))]


def _total(metrics: list[Metrics], key: str) -> float:
    """Return the last count; each part of a resumed run counts from zero.

    Lines of earlier versions name no part: there a count that falls begins one.
    """
    counts: list[tuple[int | None, float]] = [(None, 0.0)]
    counts += [(line.get("part"), line[key]) for line in metrics if _is_number(line.get(key))]
    return sum(
        after - before if part == part_before and after >= before else after
        for (part_before, before), (part, after) in pairwise(counts)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _as_svg(chart: Chart, metrics: list[Metrics]) -> str:
    """Return a chart as an SVG element, or an empty text where nothing was logged for it."""
    figure = _draw(chart, metrics, (5.5, 3.2), (INK, LINES))
    if figure is None:
        return ""
    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": chart.name, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    return svg.replace(INK, "currentColor").replace(LINES, "var(--lines)")


def _draw(
    chart: Chart, metrics: list[Metrics], size: tuple[float, float], colours: tuple[str, str]
) -> Figure | None:
    """Draw what was logged under the chart's keys over the steps; nothing where nothing was.

    `colours` are those of text and of lines.
    """
    figure = Figure(figsize=size)
    axes = figure.add_axes(_inside(*size))
    for key, (name, colour) in chart.lines.items():
        points = _points(metrics, key)
        if points:
            _draw_line(axes, points, name, colour, is_noisy=chart.is_noisy)
    if not axes.lines:
        return None
    if chart.from_zero:
        axes.set_ylim(0, 1.1 * axes.dataLim.ymax)
    _style_axes(axes, chart.axis, *colours)
    return figure


def _inside(width: float, height: float) -> tuple[float, float, float, float]:
    """Return where the axes lie in a figure of so many inches, in shares: left, bottom, width, height.

    The margins are fixed: to measure all labels takes as long as drawing them twice more.
    """
    left, bottom, right, top = MARGINS
    return left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height


def _draw_line(
    axes: Axes, points: list[tuple[int, float]], name: str, colour: str, *, is_noisy: bool
) -> None:
    """Draw a course; a long one that is noisy pale, and smoothed above it."""
    steps, values = zip(*points, strict=True)
    label = f"{name}, {values[-1]:.3g} at the end" if name else None
    if is_noisy and len(points) >= SMOOTH_FROM:
        axes.plot(steps, values, color=colour, linewidth=1, alpha=0.35)
        values = _smooth(values)
    marker = "o" if len(points) <= MARKED_UP_TO else None
    axes.plot(steps, values, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)


def _smooth(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the mean around each value, over a thirtieth of them."""
    reach = max(len(values) // 60, 1)
    around = [values[max(at - reach, 0) : at + reach + 1] for at in range(len(values))]
    return tuple(sum(near) / len(near) for near in around)


def _style_axes(axes: Axes, label: str, ink: str, lines: str) -> None:
    axes.set_xlabel("step", color=ink)
    axes.set_title(label, loc="left", y=1, fontsize="medium", color=ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.yaxis.set_major_formatter("{x:,.7g}")
    axes.tick_params(color=lines, labelcolor=ink)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(lines)
    axes.grid(visible=True, axis="y", color=lines, linewidth=0.8)
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=ink)
