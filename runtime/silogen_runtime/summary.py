"""What a person sees before a run starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from silogen_runtime.chat import Rendered

if TYPE_CHECKING:
    from rich.console import Console
    from silogen_compiler.diagnostics import Diagnostic

    from silogen_runtime.data import Split, TrainingData
    from silogen_runtime.preferences import RenderedPair
    from silogen_runtime.trainer import Plan

SAMPLE_LENGTH = 1500  # characters of the example that are shown
BETTER, WORSE = "bold green", "bold red"
# How the parts of an example are told apart, by the bracket that they begin with.
NAMES = {
    "[[": (("in [[ ]]", BETTER), ("in (( ))", WORSE)),
    "": (("like this", BETTER), ("like this", WORSE)),
}
COLOURS = {"error": "red", "warning": "yellow"}


def show_findings(console: Console, findings: list[Diagnostic]) -> None:
    for finding in findings:
        place = f"{finding.span.file}:{finding.span.line}: " if finding.span else ""
        head = Text(f"{finding.severity}[{finding.code}]", f"bold {COLOURS[finding.severity]}")
        helps = [f"help: {finding.help}"] if finding.help else []
        lines = [f": {place}{finding.message}", *(f"  {line}" for line in (*helps, *finding.notes))]
        console.print(head.append("\n".join(lines), "none"), soft_wrap=True)


def show_summary(console: Console, data: TrainingData, plan: Plan) -> None:
    """Print what is trained on what, and one training example with the learned part marked."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_row("training", describe_split(data.train))
    if data.validation:
        table.add_row("validation", describe_split(data.validation))
    table.add_row("parameters", describe_parameters(plan))
    table.add_row("steps", describe_steps(plan))
    table.add_row("output", plan.output_dir)
    console.print(Padding(table, (1, 0), expand=False))
    show_example(console, data.sample)


def show_example(console: Console, sample: Rendered | RenderedPair) -> None:
    """Print one example as text, with what is learned in colour, or in brackets where there is no colour."""
    bare = not console.is_terminal or console.no_color
    told = NAMES["[[" if bare else ""]
    if isinstance(sample, Rendered):
        head = Text.assemble("One training example; what is learned is ", told[0], ":")
        text = mark_learned(sample, ("[[", "]]") if bare else ("", ""))
    else:
        head = Text.assemble(
            "One training example; the better answer is ", told[0], ", the worse ", told[1], ":"
        )
        text = mark_answers(sample, bare=bare)
    console.print(head)
    console.print(Padding(text, (0, 0, 1, 2), expand=False))


def describe_split(split: Split) -> str:
    reasons = {"too long": split.too_long, "with nothing to learn": split.nothing_learned}
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
    dropped = f" ({left_out}: left out)" if left_out else ""
    share = split.learned_tokens / split.tokens
    return f"{len(split.rows):,} examples{dropped}, {split.tokens:,} tokens, {share:.1%} of them learned"


def describe_parameters(plan: Plan) -> str:
    percent = 100 * plan.trainable_parameters / plan.total_parameters
    return f"{plan.trainable_parameters:,} of {plan.total_parameters:,} trained ({percent:.3g}%)"


def describe_steps(plan: Plan) -> str:
    batch = plan.processes * plan.per_device_batch * plan.accumulation
    start = f", from {plan.first_step:,} on" if plan.first_step else ""
    processes = f"{plan.processes} process{'es' * (plan.processes > 1)}"
    return (
        f"{plan.steps:,}{start}, of {batch:,} examples each"
        f" ({processes} x {plan.per_device_batch} per device x {plan.accumulation} accumulated)"
    )


def mark_learned(sample: Rendered, marks: tuple[str, str]) -> Text:
    """Return the text with its learned parts in colour between `marks`."""
    text, at = Text(), 0
    for start, end in sample.learned:
        text.append(sample.text[at:start], "dim")
        text.append(marks[0] + sample.text[start:end] + marks[1], BETTER)
        at = end
    return shorten(text.append(sample.text[at:].rstrip(), "dim"))


def mark_answers(sample: RenderedPair, *, bare: bool) -> Text:
    """Return the prompt, and below it the better and the worse answer."""
    answers = (("[[", sample.chosen, "]]", BETTER), ("((", sample.rejected, "))", WORSE))
    text = shorten(Text(sample.prompt, "dim"))
    for opening, answer, closing, style in answers:
        text.append("\n" * (not text.plain.endswith("\n")))
        text.append(shorten(Text(f"{opening}{answer}{closing}" if bare else answer, style)))
    return text


def shorten(text: Text) -> Text:
    """Return the two ends of a long text."""
    if len(text) <= SAMPLE_LENGTH:
        return text
    half = SAMPLE_LENGTH // 2
    return Text.assemble(text[:half], f" … {len(text) - 2 * half:,} characters … ", text[-half:])
