"""From the lines of one data file to tokens on disk, over all cores and in the order of the file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from silogen_config import Data

from silogen_runtime.chat import IGNORED, Encoded, encode
from silogen_runtime.environment import variable
from silogen_runtime.examples import Conversation, Preference, read_example
from silogen_runtime.lines import Line, read_lines
from silogen_runtime.preferences import EncodedPair, encode_pairs
from silogen_runtime.tokens import untrimmed_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from silogen_compiler.diagnostics import Diagnostic
    from silogen_config import ResolvedConfig

    from silogen_runtime.tokenizer import ChatTokenizer

BATCH = 250  # lines that are tokenized at once
MOST_THREADS = 4  # of one process, of which one at a time renders
LARGE = 4_000_000  # bytes of a file from which on starting further processes pays

# What is known of an example beside its tokens: where it is from, the length that people mean, the least
# max_length with which it teaches anything, the tokens that the model reads, and those that it learns.
FACTS = ("line", "length", "least", "tokens", "learned")
TOKENS = {"ChatConversation": Encoded._fields, "DirectPreference": EncodedPair._fields}


class Recipe(NamedTuple):
    """All of a config that decides which tokens a line becomes, beside the tokenizer."""

    data_type: str
    loss_on: str
    max_length: int | None  # to which an example is cut; None cuts nothing
    max_prompt_length: int | None

    @property
    def schema(self) -> pa.Schema:
        """Columns of the prepared file."""
        fields = {name: pa.list_(pa.int32()) for name in TOKENS[self.data_type]}
        return pa.schema(fields | dict.fromkeys(FACTS, pa.int64()))


class Batch(NamedTuple):
    """What some lines of a file became, and what is wrong with them."""

    table: pa.Table
    findings: list[Diagnostic]


def recipe_of(config: ResolvedConfig) -> Recipe:
    data = config.data
    if isinstance(data, Data):
        limit = data.max_length if data.length_handling == "truncate" else None
        return Recipe(data.data_type, data.loss_on, limit, None)
    keeps_start = config.trainer.args.get("truncation_mode", "keep_start") == "keep_start"
    limit = data.max_length if keeps_start else None  # TRL cuts the other end
    return Recipe(data.data_type, "", limit, data.max_prompt_length)


def prepare_file(
    path: str, recipe: Recipe, chat: ChatTokenizer, *, processes: int, advance: Callable[[int], None]
) -> Iterator[Batch]:
    """Yield what the file becomes, the same for any number of processes.

    `advance` is told the bytes of each batch of lines that is done.
    """
    damage: list[Diagnostic] = []
    with _workers(path, recipe, chat, processes) as work:
        for size, batch in work(_batches(read_lines(path), damage)):
            advance(size)
            yield batch
    if damage:
        yield Batch(recipe.schema.empty_table(), damage)


def encode_lines(path: str, recipe: Recipe, chat: ChatTokenizer, lines: list[Line]) -> Batch:
    """Return what is right of the lines as tokens."""
    read = [read_example(line, path, recipe.data_type) for line in lines]
    findings = [finding for _, problems in read for finding in problems]
    examples = [example for example, _ in read if example is not None]
    encoded, problems = _encode(chat, examples, recipe)
    findings += problems
    bad = {finding.span.line for finding in findings if finding.span and finding.severity == "error"}
    rows = [
        _row(tokens, example.line)
        for tokens, example in zip(encoded, examples, strict=True)
        if tokens is not None and example.line not in bad
    ]
    columns = {name: [row[name] for row in rows] for name in recipe.schema.names}
    return Batch(pa.table(columns, recipe.schema), sorted(findings, key=_line_of))


def _line_of(finding: Diagnostic) -> int:
    return finding.span.line if finding.span else 0


def _encode(chat: ChatTokenizer, examples: list[Any], recipe: Recipe) -> tuple[list[Any], list[Diagnostic]]:
    limit = recipe.max_length
    if recipe.data_type == "DirectPreference":
        preferences: list[Preference] = examples
        longest = recipe.max_prompt_length
        return encode_pairs(chat, preferences, max_length=limit, max_prompt_length=longest)
    conversations: list[Conversation] = examples
    encoded, findings = encode(chat, conversations, loss_on=recipe.loss_on)
    return [row and Encoded(row.input_ids[:limit], row.labels[:limit]) for row in encoded], findings


def _row(tokens: Encoded | EncodedPair, line: int) -> dict[str, Any]:
    if isinstance(tokens, Encoded):
        size = len(tokens.input_ids)
        learned = int(np.count_nonzero(tokens.labels != IGNORED))
        facts = (line, size, size, size, learned)
    else:
        prompt, chosen, rejected = map(len, tokens)
        answers = chosen + rejected
        facts = (line, prompt + max(chosen, rejected), prompt + 1, 2 * prompt + answers, answers)
    return tokens._asdict() | dict(zip(FACTS, facts, strict=True))


def _batches(lines: Iterable[Line | Diagnostic], damage: list[Diagnostic]) -> Iterator[list[Line]]:
    """Yield the lines in batches; findings about the file go to `damage`."""
    kept: list[Line] = []
    for line in lines:
        if isinstance(line, Line):
            kept.append(line)
        else:
            damage.append(line)
        if len(kept) == BATCH:
            yield kept
            kept = []
    if kept:
        yield kept


@contextmanager
def _workers(
    path: str, recipe: Recipe, chat: ChatTokenizer, processes: int
) -> Iterator[Callable[[Iterable[list[Line]]], Iterator[tuple[int, Batch]]]]:
    """Yield what turns batches of lines into batches of tokens, in order.

    One process works in threads where most of the time is the tokenizer's, which needs no interpreter.
    """
    work: Callable[[list[Line]], Batch] = partial(encode_lines, path, recipe, chat)
    with ExitStack() as stack:
        stack.enter_context(untrimmed_offsets(chat.tokenizer))
        stack.enter_context(variable("TOKENIZERS_PARALLELISM", "false"))  # their threads would be in the way
        pool: Executor
        if processes < 2 or os.path.getsize(path) < LARGE or not _can_fork():  # noqa: PLR2004, PTH202
            pool = ThreadPoolExecutor(1 if chat.texts.remembers else min(cores(), MOST_THREADS))
        else:
            fork = multiprocessing.get_context("fork")
            pool, work = ProcessPoolExecutor(processes, fork, _set_job, ((path, recipe, chat),)), _work
        stack.enter_context(pool)
        stack.callback(pool.shutdown, cancel_futures=True)
        yield lambda batches: _in_order(pool, work, batches, ahead=2 * max(processes, MOST_THREADS))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _can_fork() -> bool:
    """Tell whether a process can be copied with what it has loaded; macOS has the call, and crashes."""
    return sys.platform == "linux"


def _in_order(
    pool: Executor, work: Callable[[list[Line]], Batch], batches: Iterable[list[Line]], *, ahead: int
) -> Iterator[tuple[int, Batch]]:
    """Yield the results in the order of the batches, of which no more than `ahead` wait in memory."""
    waiting: deque[Any] = deque()
    for lines in batches:
        waiting.append((_size(lines), pool.submit(work, lines)))
        if len(waiting) > ahead:
            size, result = waiting.popleft()
            yield size, result.result()
    for size, result in waiting:
        yield size, result.result()


def _size(lines: list[Line]) -> int:
    return sum(len(line.text) + 1 for line in lines)


_job: list[Any] = []  # what the processes of a pool work on


def _set_job(job: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells them to end
    _job[:] = job


def _work(lines: list[Line]) -> Batch:
    path, recipe, chat = _job
    return encode_lines(path, recipe, chat, lines)
