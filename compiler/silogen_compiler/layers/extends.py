"""The files below a file: its `extends`, lowest first."""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.load import Layer, load_text, read_source, value_span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from silogen_compiler.diagnostics import Span

MOST_FILES = 256


def from_disk(name: str) -> tuple[str, str]:
    """Return what findings call a file, and its text."""
    return printable(name), read_source(name)


def load_files(
    names: Sequence[str], sources: dict[str, str], read: Callable[[str], tuple[str, str]] = from_disk
) -> list[Layer]:
    """Return the layers of the files `names` and of all that they extend, in the order of merging.

    `read` takes a file's name and returns what findings call it, and its text; what is read is noted in
    `sources`. Raises Refused with what is wrong in any of the files.
    """
    layers: list[Layer] = []
    found: list[Diagnostic] = []
    for name in names:
        try:
            layers += with_bases(_load(name, None, sources, read), (name,), sources, read)
        except Refused as refused:
            found += refused.diagnostics
    if found:
        raise Refused(*found)
    return layers


def with_bases(
    layer: Layer,
    chain: tuple[str, ...],
    sources: dict[str, str],
    read: Callable[[str], tuple[str, str]] = from_disk,
) -> list[Layer]:
    """Return the layers that `layer` extends, and itself.

    `chain` holds the files that led to it; what is read is noted in `sources`.
    """
    if "extends" not in layer.data:
        return [layer]
    bases: Any = layer.data["extends"]
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        label = f"write [{bases}]" if isinstance(bases, str) and bases else "write [base.yaml]"
        raise Refused(
            Diagnostic("SG203", "`extends` must be a list of files", value_span(layer, ("extends",)), label)
        )
    layers: list[Layer] = []
    for index, base in enumerate(bases):
        name = os.path.normpath(os.path.join(os.path.dirname(chain[-1]), base))  # noqa: PTH118, PTH120
        span = value_span(layer, ("extends", index))
        below = _load(name, span, sources, read)
        _check_chain(chain, name, span)
        layers += with_bases(below, (*chain, name), sources, read)
        if len(layers) > MOST_FILES:
            raise Refused(Diagnostic("SG108", f"more than {MOST_FILES} files are extended", span))
    data = {key: value for key, value in layer.data.items() if key != "extends"}
    marks = {at: mark for at, mark in layer.marks.items() if at[0] != "extends"}
    return [*layers, layer._replace(data=data, marks=marks)]


def _check_chain(chain: tuple[str, ...], name: str, span: Span | None) -> None:
    places = [os.path.realpath(link) for link in chain]
    place = os.path.realpath(name)
    if place in places:
        circle = " → ".join([*chain[places.index(place) :], name])
        raise Refused(Diagnostic("SG113", f"files extend each other: {circle}", span, "remove this one"))


def _load(
    name: str, span: Span | None, sources: dict[str, str], read: Callable[[str], tuple[str, str]]
) -> Layer:
    """Return the file `name`; where it cannot be read, `span` is the place that names it."""
    try:
        name, text = read(name)
    except Refused as refused:
        raise Refused(*(d._replace(span=d.span or span) for d in refused.diagnostics)) from None
    sources[name] = text
    return load_text(name, text)


def printable(name: str) -> str:
    """Return a file's name as findings and origins can hold it: on one line, in UTF-8."""
    whole = "".join(char if char.isprintable() else "?" for char in name)
    return whole.encode("utf-8", "replace").decode("utf-8")
