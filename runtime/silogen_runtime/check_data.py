"""`silogen check --data`: what the data of a config becomes, before any GPU is used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from silogen_compiler.commands.report import report_findings
from silogen_compiler.diagnostics import Refused, has_errors

from silogen_runtime.data import first_of, load_data, merge_same, most_tokens, prepare_files
from silogen_runtime.failures import explain_failures
from silogen_runtime.machine import data_files, model_folders
from silogen_runtime.prepare import TOKENS
from silogen_runtime.quiet import quiet_libraries
from silogen_runtime.resolved import parse
from silogen_runtime.rows import column
from silogen_runtime.summary import describe_split, show_example
from silogen_runtime.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from silogen_compiler.diagnostics import Diagnostic
    from silogen_config import ResolvedConfig

    from silogen_runtime.cache import Prepared
    from silogen_runtime.tokenizer import ChatTokenizer

BARS, WIDTH = 10, 40  # of the histogram: at most so many bars, of so many characters
WRONG_BOS = "SG608"


def check_data(resolved: dict[str, Any]) -> bool:
    """Print what the data of a resolved config becomes, with all findings; return whether it trains."""
    console = Console()
    try:
        with quiet_libraries():
            findings = show_data(parse(resolved), console)
    except Refused as refused:
        findings = list(refused.diagnostics)
    report_findings(findings, {})
    return not has_errors(findings)


def show_data(config: ResolvedConfig, console: Console) -> list[Diagnostic]:
    """Print facts about the data and return the findings."""
    missing = [*data_files(config), *model_folders(config)]
    if missing:
        return missing
    with explain_failures("loading the tokenizer"):
        chat = load_tokenizer(config)
    with explain_failures("tokenizing the data"):
        files = list({file.path: file for file in prepare_files(config, chat, console)}.values())
        for file in files:
            print_plain(console, describe_file(file, config, chat))
        lengths = np.concatenate([column(file.examples, "length") for file in files])
        if len(lengths):
            print_plain(console, "\n" + histogram(lengths, config.data.max_length, console.width))
        findings = [finding for file in files for finding in file.findings]
        left = show_what_is_left(config, chat, console)
    errors_first = sorted([*findings, *left], key=lambda finding: finding.severity)
    return first_of(merge_same(list(dict.fromkeys(errors_first))))


def print_plain(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_what_is_left(config: ResolvedConfig, chat: ChatTokenizer, console: Console) -> Sequence[Diagnostic]:
    """Print what a run that leaves out every bad line trains on, or return why it can't."""
    try:
        data = load_data(config, chat, console, max_bad_lines=sys.maxsize)
    except Refused as refused:
        return refused.diagnostics
    table = Table.grid(padding=(0, 2))
    table.add_row("training", describe_split(data.train))
    if data.validation:
        table.add_row("validation", describe_split(data.validation))
    console.print(Padding(table, (1, 0)))
    show_example(console, data.sample)
    return ()


def describe_file(file: Prepared, config: ResolvedConfig, chat: ChatTokenizer) -> str:
    """Return what is worth knowing of a file, before examples are left out."""
    least, tokens, learned = (column(file.examples, name) for name in ("least", "tokens", "learned"))
    share = learned.sum() / max(tokens.sum(), 1)
    too_long = int((least > most_tokens(config.data)).sum())
    counts = {
        "bad lines": len({finding.span for finding in file.findings if finding.severity == "error"}),
        "without exactly one BOS": sum(finding.code == WRONG_BOS for finding in file.findings),
        f"too long ({too_long / max(len(least), 1):.1%})": too_long,
        "with nothing to learn": int((learned == 0).sum()),
        "unknown tokens": unknown_tokens(file, config, chat),
    }
    sizes = f"{len(file.examples):,} examples, {tokens.sum():,} tokens, {share:.1%} of them learned"
    problems = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    return f"{file.path}\n  {sizes}\n  {problems}"


def unknown_tokens(file: Prepared, config: ResolvedConfig, chat: ChatTokenizer) -> int:
    """Return how many tokens stand for text that the tokenizer can't write."""
    tokenizer = chat.tokenizer
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in {tokenizer.eos_token_id, tokenizer.bos_token_id}:
        return 0  # some tokenizers name another token so
    names = [name for name in TOKENS[config.data.data_type] if name != "labels"]
    columns = [pc.list_flatten(file.examples.data.column(name)) for name in names]
    return sum(pc.sum(pc.equal(ids, unknown)).as_py() or 0 for ids in columns)


def histogram(lengths: NDArray[np.int64], limit: int | None, columns: int) -> str:
    """Return how many examples have which length, a bar a range; the last takes the longest 1 %."""
    low, high, top = int(lengths.min()), int(np.percentile(lengths, 99)), int(lengths.max())
    width = (high - low) // BARS + 1
    counts = np.bincount(np.minimum((lengths - low) // width, BARS - 1)).tolist()
    starts = [low + at * width for at in range(len(counts))]
    ends = [start - 1 for start in starts[1:]] + [top]
    ranges = [
        f"{start:,} to {end:,}" if end > start else f"{start:,}"
        for start, end in zip(starts, ends, strict=True)
    ]
    size, numbers = max(map(len, ranges)), len(f"{max(counts):,}")
    longest = max(min(WIDTH, columns - size - numbers - 6), 1)
    lines = [
        f"  {name:>{size}}  {'█' * -(-count * longest // max(counts))} {count:,}"
        for name, count in zip(ranges, counts, strict=True)
    ]
    head = f"tokens an example, longest {top:,}" + (f", limit {limit:,}" if limit else "")
    return "\n".join([head, *lines])
