"""Stage 2: several layers become one. Objects merge, the rest replaces, every value keeps its place."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from silogen_compiler.load import Layer, Mark, Path, find_mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from silogen_compiler.diagnostics import Span


class Items(dict[int, Any]):
    """Values for single items of a list, by index: what a setting of `datasets[0].path` merges."""


def merge(layers: Sequence[Layer]) -> Layer:
    """Return one layer with the values of all, later ones first, named after the first."""
    return reduce(merge_two, layers)


def merge_two(below: Layer, above: Layer) -> Layer:
    """Return `below` with what `above` sets. Neither is changed."""
    gone: dict[Path, Span] = {}
    data = _merged(below.data, above.data, (), below.marks, gone)
    kept = {at: mark for at, mark in below.marks.items() if not _is_below(at, gone)}
    return Layer(
        below.name,
        {**below.sources, **above.sources},
        data,
        {**kept, **above.marks},
        {**below.replaced, **gone},
        {**below.variables, **above.variables},
    )


def _merged(below: Any, above: Any, path: Path, marks: dict[Path, Mark], gone: dict[Path, Span]) -> Any:
    """Return the merged value at `path`, and note in `gone` the places of what is replaced."""
    if isinstance(above, Items) and isinstance(below, list):
        out: Any = list(below)
    elif isinstance(above, dict) and isinstance(below, dict):
        out = dict(below)
    else:
        mark = find_mark(marks, path)
        if mark:
            gone[path] = mark.value
        return above
    for key, value in above.items():
        is_there = isinstance(out, list) or key in out
        out[key] = _merged(out[key], value, (*path, key), marks, gone) if is_there else value
    return out


def _is_below(path: Path, gone: dict[Path, Span]) -> bool:
    return any(path[:length] in gone for length in range(1, len(path) + 1))


def texts(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text in `data` with its path."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from texts(value, (*path, key))
