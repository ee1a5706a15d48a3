"""The pictures of a finished run: loss.png, and report.html with all that was logged."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from silogen_compiler.emit import emit_yaml
from silogen_compiler.files import new_file, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from silogen_runtime.progress import Metrics

BLUE, ORANGE = "#2f6fb2", "#d9742b"
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


class Chart(NamedTuple):
    """One picture of the report: its name, its axis, and the logged keys that it draws."""

    name: str
    axis: str
    lines: dict[str, tuple[str, str]]


LOSS = Chart("Loss", "loss", {"loss": ("training", BLUE), "eval_loss": ("validation", ORANGE)})
CHARTS = (
    Chart(
        "Reward margin",
        "margin",
        {"rewards/margins": ("training", BLUE), "eval_rewards/margins": ("validation", ORANGE)},
    ),
    Chart("Learning rate", "learning rate", {"learning_rate": ("learning rate", BLUE)}),
    Chart("Gradient norm", "norm before clipping", {"grad_norm": ("gradient norm", BLUE)}),
    Chart("Throughput", "tokens a second", {"tokens_per_second": ("this process", BLUE)}),
    Chart("Memory", "GB", {"memory_gb": ("this process", BLUE)}),
)


# What the loss of each method is.
LOSSES = {"sft": "loss (cross-entropy per token)", "dpo": "loss (of a pair of answers)"}


def draw_loss(metrics: list[Metrics], method: str, path: Path) -> None:
    """Draw training and validation loss over the steps; no picture where no loss was logged."""
    figure = _draw(LOSS._replace(axis=LOSSES[method]), metrics, (8, 4.5))
    if figure:
        with new_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)


def write_report(metrics: list[Metrics], resolved: dict[str, Any], path: Path) -> None:
    """Write one HTML page that needs no other file: key figures, charts, and the resolved config."""
    charts = [LOSS._replace(axis=LOSSES[resolved["method"]]), *CHARTS]
    pictures = [(chart.name, _as_svg(chart, metrics)) for chart in charts]
    versions = [f"{name} {version}" for name, version in resolved["target"].items() if name != "name"]
    page = TEMPLATES.get_template("report.html.jinja").render(
        title=_title(resolved),
        subtitle=", ".join(
            [f"{resolved['method']} on {resolved['launch']['world_size']} device(s)", *versions]
        ),
        figures=list(_figures(metrics)),
        charts=[(name, picture) for name, picture in pictures if picture],
        config=emit_yaml(resolved, {}),
    )
    write_whole(path, page)


def _title(resolved: dict[str, Any]) -> str:
    model = resolved["model"]["from_pretrained"]["pretrained_model_name_or_path"]
    adapter = (resolved["peft"] or {}).get("class", "")
    return f"{model} with {adapter.removesuffix('Config')}" if adapter else str(model)


def _figures(metrics: list[Metrics]) -> list[tuple[str, str]]:
    """Return the key figures of a run that logged them."""
    found = [("steps", f"{max((line['step'] for line in metrics), default=0):,}")]
    for key, name in (("loss", "loss"), ("eval_loss", "validation loss")):
        values = _values(metrics, key)
        found += [(name, f"{values[0]:.4g} → {values[-1]:.4g}")] if values else []
    tokens = _values(metrics, "num_tokens")
    found += [("tokens", f"{tokens[-1]:,.0f}")] if tokens else []
    speeds, memory = _values(metrics, "tokens_per_second"), _values(metrics, "memory_gb")
    found += [("tokens a second", f"{sorted(speeds)[len(speeds) // 2]:,.0f}")] if speeds else []
    found += [("memory", f"{max(memory):.2f} GB")] if memory else []
    return found


def _values(metrics: list[Metrics], key: str) -> list[float]:
    return [line[key] for line in metrics if isinstance(line.get(key), int | float)]


def _as_svg(chart: Chart, metrics: list[Metrics]) -> str:
    """Return a chart as an SVG element, or an empty text where nothing was logged for it."""
    figure = _draw(chart, metrics, (5.5, 3.2))
    if figure is None:
        return ""
    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": chart.name, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _draw(chart: Chart, metrics: list[Metrics], size: tuple[float, float]) -> Figure | None:
    """Draw what was logged under the chart's keys over the steps; nothing where nothing was."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    for key, (name, colour) in chart.lines.items():
        points = [(line["step"], line[key]) for line in metrics if isinstance(line.get(key), int | float)]
        if points:
            _draw_line(axes, points, name, colour, is_rare="eval" in key)
    if not axes.lines:
        return None
    _label_axes(axes, chart.axis)
    return figure


def _draw_line(axes: Axes, points: list[tuple[int, float]], name: str, colour: str, *, is_rare: bool) -> None:
    steps, values = zip(*points, strict=True)
    marker = "o" if is_rare or len(points) == 1 else None
    label = f"{name}, {values[-1]:.3g} at the end"
    axes.plot(steps, values, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)


def _label_axes(axes: Axes, label: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
