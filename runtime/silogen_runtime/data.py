"""From data files to the examples that are trained and validated on."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from datasets import Dataset, concatenate_datasets
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from silogen_compiler.diagnostics import Diagnostic, Refused, has_errors
from silogen_config import Concatenation, Data, NoData

from silogen_runtime.cache import Prepared, prepared_file
from silogen_runtime.chat import render
from silogen_runtime.examples import Preference, read_example
from silogen_runtime.lines import Line, compression_of, read_lines
from silogen_runtime.preferences import render_pairs
from silogen_runtime.prepare import FACTS, TOKENS, cores, recipe_of
from silogen_runtime.rows import choose_rows, column, mix_growth, trained_on_too

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.console import Console
    from rich.progress import TaskID
    from silogen_config import PreferenceData, ResolvedConfig

    from silogen_runtime.chat import Rendered
    from silogen_runtime.preferences import RenderedPair
    from silogen_runtime.tokenizer import ChatTokenizer

    AnyData = Data | PreferenceData
    Counts = dict[str, NDArray[np.int64]]

MOST_FINDINGS = 20

# What to write where examples are too long.
LONGER = {
    "ChatConversation": "write a larger `max_seq_length` under sft_args, or `length_handling: truncate`",
    "DirectPreference": "write a larger `max_length` under training_args, or a smaller `max_prompt_length`",
}


class Split(NamedTuple):
    """Examples as tokens, which of all examples they are, and what became of the others."""

    examples: Dataset
    rows: list[int]
    too_long: int
    nothing_learned: int
    tokens: int
    learned_tokens: int


class TrainingData(NamedTuple):
    """What is trained and validated on, one training example as text, and warnings."""

    train: Split
    validation: Split | None
    sample: Rendered | RenderedPair
    diagnostics: list[Diagnostic]


def load_data(
    config: ResolvedConfig, chat: ChatTokenizer, console: Console, *, max_bad_lines: int = 0
) -> TrainingData:
    """Read, tokenize, mix and split. Refused where the files hold something that can't be trained on.

    Up to `max_bad_lines` lines that can't are left out, each with a warning.
    """
    data = config.data
    files = prepare_files(config, chat, console)
    findings = forgive([finding for file in files for finding in file.findings], max_bad_lines)
    refuse_errors(findings)
    refuse_errors(empty_files(files))
    examples = concatenate_datasets([file.examples for file in files])
    counts: Counts = {name: column(examples, name) for name in FACTS}
    sizes = [len(file.examples) for file in files]
    findings += mix_growth(data, sizes)
    refuse_errors(findings)
    train_rows, validation_rows = choose_rows(data, sizes)
    train = make_split(examples, counts, train_rows, data)
    validation = make_split(examples, counts, longest_first(counts, validation_rows), data)
    refuse_errors(_nothing_left(train, validation, data))
    findings += trained_on_too([file.path for file in files], sizes, train.rows, validation.rows)
    whole = (row for row in train.rows if counts["length"][row] < most_tokens(data))
    sample = sample_of(config, chat, files, next(whole, train.rows[0]))
    return TrainingData(
        train, validation if validation_rows else None, sample, first_of(merge_same(findings))
    )


def prepare_files(config: ResolvedConfig, chat: ChatTokenizer, console: Console) -> list[Prepared]:
    """Return the training files, then those of validation, each prepared once; a bar shows how far it is."""
    paths, recipe = source_files(config.data), recipe_of(config)
    processes = config.trainer.args.get("dataset_num_proc") or cores()
    columns = (TextColumn("tokenizing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    prepared: dict[str, Prepared] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        for path in dict.fromkeys(paths):
            size = None if compression_of(path) else Path(path).stat().st_size  # holds more than that tells
            task = bar.add_task(path, total=size, visible=False)

            def advance(size: int, task: TaskID = task) -> None:
                bar.update(task, advance=size, visible=True)

            prepared[path] = prepared_file(path, recipe, chat, processes=processes, advance=advance)
            bar.remove_task(task)
    return [prepared[path] for path in paths]


def empty_files(files: Sequence[Prepared]) -> list[Diagnostic]:
    return [
        Diagnostic("SG601", f"`{file.path}` holds no example", file=file.path)
        for file in files
        if not len(file.examples)
    ]


def forgive(findings: list[Diagnostic], max_bad_lines: int) -> list[Diagnostic]:
    """Return the findings; errors of up to `max_bad_lines` lines become warnings."""
    bad = {finding.span for finding in findings if finding.span and finding.severity == "error"}
    if len(bad) > max_bad_lines:
        return findings
    return [
        Diagnostic("SG615", f"left out: {finding.message}", finding.span) if finding.span in bad else finding
        for finding in findings
    ]


def sample_of(
    config: ResolvedConfig, chat: ChatTokenizer, files: Sequence[Prepared], row: int
) -> Rendered | RenderedPair:
    """Return an example as text, which is read once more."""
    for file in files:
        if row < len(file.examples):
            break
        row -= len(file.examples)
    number = file.examples[row]["line"]
    lines = (line for line in read_lines(file.path) if isinstance(line, Line) and line.number == number)
    example, _ = read_example(next(islice(lines, 1)), file.path, config.data.data_type)
    assert example is not None
    (sample,) = (
        render_pairs(chat, [example])
        if isinstance(example, Preference)
        else render(chat, [example], loss_on=recipe_of(config).loss_on)
    )
    assert not isinstance(sample, Diagnostic)
    return sample


def source_files(data: AnyData) -> list[str]:
    """Return the paths of the training files, then those of the validation files."""
    train = [file.path for file in data.train.datasets if getattr(file, "sampling_weight", 1) > 0]
    own = data.validation.datasets if isinstance(data.validation, Concatenation) else []
    return train + [file.path for file in own]


def most_tokens(data: AnyData) -> int:
    """Return the length from which on an example is left out."""
    return sys.maxsize if data.max_length is None else data.max_length


def longest_first(counts: Counts, rows: list[int]) -> list[int]:
    return sorted(rows, key=lambda row: counts["length"][row], reverse=True)


def make_split(examples: Dataset, counts: Counts, rows: list[int], data: AnyData) -> Split:
    """Keep the rows that are short enough and teach something."""
    chosen = np.array(rows, np.int64)
    short = chosen[counts["least"][chosen] <= most_tokens(data)]
    kept = short[counts["learned"][short] > 0]
    return Split(
        examples.select_columns(list(TOKENS[data.data_type])).select(kept),
        kept.tolist(),
        too_long=len(rows) - len(short),
        nothing_learned=len(short) - len(kept),
        tokens=int(counts["tokens"][kept].sum()),
        learned_tokens=int(counts["learned"][kept].sum()),
    )


def refuse_errors(findings: list[Diagnostic]) -> None:
    """Raise Refused with the first findings where any is an error."""
    if has_errors(findings):
        raise Refused(*first_of([finding for finding in findings if finding.severity == "error"]))


def merge_same(warnings: list[Diagnostic]) -> list[Diagnostic]:
    """Return the first warning of each text, noting how often it came again."""
    counts = Counter((warning.code, warning.message) for warning in warnings)
    firsts = {(warning.code, warning.message): warning for warning in reversed(warnings)}
    return [
        firsts[key]._replace(notes=(f"the same in {count - 1:,} more",) * (count > 1))
        for key, count in counts.items()
    ]


def first_of(findings: list[Diagnostic]) -> list[Diagnostic]:
    """Return the first findings, and how many more there are."""
    more = len(findings) - MOST_FINDINGS
    if more <= 0:
        return findings
    return [*findings[:MOST_FINDINGS], Diagnostic("SG699", f"{more} more findings in the data are not shown")]


def _nothing_left(train: Split, validation: Split, data: AnyData) -> list[Diagnostic]:
    wanted = {"training": train} | ({} if isinstance(data.validation, NoData) else {"validation": validation})
    return [
        Diagnostic(
            "SG610",
            f"no {name} example is left: {split.too_long} are longer than {data.max_length} tokens,"
            f" {split.nothing_learned} hold nothing to learn",
            help=LONGER[data.data_type],
        )
        for name, split in wanted.items()
        if not split.rows
    ]
