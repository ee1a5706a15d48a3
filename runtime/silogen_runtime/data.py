"""From data files to the tokens that are trained and validated on."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from datasets import Dataset, interleave_datasets
from silogen_compiler.diagnostics import Diagnostic, Refused, has_errors
from silogen_config import AutoSplit, Concatenation, NoData, WeightedMix

from silogen_runtime.chat import IGNORED, Conversation, Encoded, Rendered, encode, render
from silogen_runtime.jsonl import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_config import Data

    from silogen_runtime.tokenizer import ChatTokenizer

MOST_FINDINGS = 20
BATCH = 1000  # conversations that are tokenized at once


class Split(NamedTuple):
    """Examples with input_ids and labels, which conversations they are, and what became of the others."""

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
    sample: Rendered
    diagnostics: list[Diagnostic]


def load_data(data: Data, chat: ChatTokenizer) -> TrainingData:
    """Read, mix, split and tokenize. Refused where the files hold something that can't be trained on."""
    files = [read_file(path) for path in source_files(data)]
    findings = [finding for file in files for finding in file.diagnostics]
    refuse_errors(findings)
    conversations = [conversation for file in files for conversation in file.conversations]
    train_rows, validation_rows = choose_rows(data, [len(file.conversations) for file in files])
    encoded, problems = encode_all(chat, conversations, data)
    refuse_errors(problems)
    train, validation = (
        make_split(encoded, rows, data) for rows in (train_rows, longest_first(encoded, validation_rows))
    )
    refuse_errors(_nothing_left(train, validation, data))
    sample = render(chat, conversations[train.rows[0]], loss_on=data.loss_on)
    assert isinstance(sample, Rendered)
    wanted = validation if validation_rows else None
    return TrainingData(train, wanted, sample, first_of(merge_same(findings + problems)))


def source_files(data: Data) -> list[str]:
    """Return the paths of the training files, then those of the validation files."""
    train = [file.path for file in data.train.datasets if getattr(file, "sampling_weight", 1) > 0]
    own = data.validation.datasets if isinstance(data.validation, Concatenation) else []
    return train + [file.path for file in own]


def choose_rows(data: Data, sizes: list[int]) -> tuple[list[int], list[int]]:
    """Return which conversations are trained and validated on, for source files of `sizes` conversations."""
    files = [range(start, end) for start, end in pairwise(accumulate(sizes, initial=0))]
    own = len(data.validation.datasets) if isinstance(data.validation, Concatenation) else 0
    for_training, for_validation = files[: len(files) - own], files[len(files) - own :]
    if isinstance(data.train, WeightedMix):
        train = mix(data.train, for_training)
    else:
        train = list(chain(*for_training))
    if isinstance(data.validation, AutoSplit):
        return split_off(data.validation, train)
    return train, list(chain(*for_validation))


def mix(spec: WeightedMix, files: Sequence[Sequence[int]]) -> list[int]:
    """Interleave the rows of `files` by weight until each was used up once; weights of 1 take turns."""
    weights = [file.sampling_weight for file in spec.datasets if file.sampling_weight > 0]
    total = sum(weights)
    mixed = interleave_datasets(
        [Dataset.from_dict({"row": list(rows)}) for rows in files],
        probabilities=None if set(weights) == {1.0} else [weight / total for weight in weights],
        seed=spec.seed,
        stopping_strategy="all_exhausted",
    )
    return list(mixed["row"])


def split_off(spec: AutoSplit, rows: list[int]) -> tuple[list[int], list[int]]:
    """Return `rows` without a share of them, and that share. Refused where one of the two would be empty."""
    try:
        parts = Dataset.from_dict({"row": rows}).train_test_split(test_size=spec.ratio, seed=spec.seed)
    except ValueError as error:
        raise Refused(
            Diagnostic(
                "SG611",
                f"a share of {spec.ratio:g} for validation can't be split off {len(rows)} conversations",
                help="write a ratio that leaves both sides at least one, or `type: NONE`",
            ),
        ) from error
    return list(parts["train"]["row"]), list(parts["test"]["row"])


def encode_all(
    chat: ChatTokenizer, conversations: Sequence[Conversation], data: Data
) -> tuple[list[Encoded], list[Diagnostic]]:
    """Tokenize in batches, cut at max_length where the config asks for it."""
    encoded: list[Encoded] = []
    findings: list[Diagnostic] = []
    limit = data.max_length if data.length_handling == "truncate" else None
    for start in range(0, len(conversations), BATCH):
        batch, problems = encode(chat, conversations[start : start + BATCH], loss_on=data.loss_on)
        encoded += (Encoded(ids[:limit], labels[:limit]) for ids, labels in batch)
        findings += problems
    return encoded, findings


def longest_first(encoded: Sequence[Encoded], rows: list[int]) -> list[int]:
    return sorted(rows, key=lambda row: len(encoded[row].input_ids), reverse=True)


def make_split(encoded: Sequence[Encoded], rows: list[int], data: Data) -> Split:
    """Keep the rows that are short enough and teach something."""
    short = [row for row in rows if len(encoded[row].input_ids) <= data.max_length]
    learned = {row: int(np.count_nonzero(encoded[row].labels != IGNORED)) for row in short}
    kept = [row for row in short if learned[row]]
    return Split(
        Dataset.from_dict({name: [getattr(encoded[row], name) for row in kept] for name in Encoded._fields}),
        kept,
        too_long=len(rows) - len(short),
        nothing_learned=len(short) - len(kept),
        tokens=sum(len(encoded[row].input_ids) for row in kept),
        learned_tokens=sum(learned[row] for row in kept),
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


def _nothing_left(train: Split, validation: Split, data: Data) -> list[Diagnostic]:
    wanted = {"training": train} | ({} if isinstance(data.validation, NoData) else {"validation": validation})
    return [
        Diagnostic(
            "SG610",
            f"no {name} example is left: {split.too_long} are longer than {data.max_length} tokens,"
            f" {split.nothing_learned} hold nothing to learn",
            help="write a larger `max_seq_length` under sft_args, or `length_handling: truncate`",
        )
        for name, split in wanted.items()
        if not split.rows
    ]
