"""Which rows of the data are trained on and which validated on: joined, mixed by weight, split off."""

from __future__ import annotations

from itertools import accumulate, chain
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset, interleave_datasets
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_config import AutoSplit, Concatenation, Data, WeightedMix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from silogen_compiler.diagnostics import Findings
    from silogen_config import PreferenceData

    AnyData = Data | PreferenceData

# How often the examples of a mix are drawn on average, from which on a person is told, or stopped.
MANY_DRAWS, TOO_MANY_DRAWS = 10, 1000


def choose_rows(data: AnyData, sizes: list[int]) -> tuple[list[int], list[int]]:
    """Return which examples are trained and validated on, for source files of `sizes` examples."""
    files = [range(start, start + size) for start, size in zip(_starts(sizes), sizes, strict=True)]
    own = len(data.validation.datasets) if isinstance(data.validation, Concatenation) else 0
    for_training, for_validation = files[: len(files) - own], files[len(files) - own :]
    if isinstance(data.train, WeightedMix):
        train = mix(data.train, for_training)
    else:
        train = list(chain(*for_training))
    if isinstance(data.validation, AutoSplit):
        return split_off(data.validation, train)
    return train, list(chain(*for_validation))


def _starts(sizes: Sequence[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))[:-1]


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
    drawn: list[int] = column(mixed, "row").tolist()
    return drawn


def split_off(spec: AutoSplit, rows: list[int]) -> tuple[list[int], list[int]]:
    """Return `rows` without a share of them, and that share. Refused where one of the two would be empty."""
    try:
        parts = Dataset.from_dict({"row": rows}).train_test_split(test_size=spec.ratio, seed=spec.seed)
    except ValueError as error:
        raise Refused(
            Diagnostic(
                "SG611",
                f"a share of {spec.ratio:g} for validation can't be split off {len(rows)} examples",
                help="write a ratio that leaves both sides at least one, or `type: NONE`",
            ),
        ) from error
    return column(parts["train"], "row").tolist(), column(parts["test"], "row").tolist()


def mix_growth(data: AnyData, sizes: Sequence[int]) -> Findings:
    """Yield a finding where a small weight makes a mix draw the examples of other files over and over."""
    if not isinstance(data.train, WeightedMix):
        return
    drawn = [file for file in data.train.datasets if file.sampling_weight > 0]
    total = sum(file.sampling_weight for file in drawn)
    slowest = max(zip(drawn, sizes, strict=False), key=lambda pair: pair[1] / pair[0].sampling_weight)
    file, size = slowest
    draws, examples = size * total / file.sampling_weight, sum(sizes[: len(drawn)])
    if draws > MANY_DRAWS * examples:
        yield Diagnostic(
            "SG619" if draws <= TOO_MANY_DRAWS * examples else "SG620",
            f"the mix draws about {draws:,.0f} times from {examples:,} examples, until the {size:,} of"
            f" `{file.path}`, {file.sampling_weight / total:.2g} of the draws, are used up",
            help="write a larger `sampling_weight` for it",
            file=file.path,
        )


def trained_on_too(
    paths: Sequence[str], sizes: Sequence[int], train: list[int], validation: list[int]
) -> Findings:
    """Yield a finding where lines of the data files are among both the rows of `train` and `validation`."""
    first: dict[str, int] = {}
    for path, start in zip(paths, _starts(sizes), strict=True):
        first.setdefault(path, start)
    lines = np.concatenate([first[path] + np.arange(size) for path, size in zip(paths, sizes, strict=True)])
    shared = np.isin(lines[validation], lines[train]).sum()
    if shared:
        yield Diagnostic(
            "SG618",
            f"{shared:,} of {len(validation):,} validation examples are trained on too, so their loss"
            " does not show how the model does on text that is new to it",
            help="keep what is validated on in files of its own",
        )


def column(examples: Dataset, name: str) -> NDArray[np.int64]:
    """Return a column of numbers as a whole; row by row, a million of them take minutes."""
    values: NDArray[np.int64] = examples.data.column(name).to_numpy()
    chosen = examples._indices  # noqa: SLF001 - the rows of an interleaved, split or shuffled set
    return values if chosen is None else values[chosen.column(0).to_numpy()]
