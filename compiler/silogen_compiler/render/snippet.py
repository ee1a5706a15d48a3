"""The source lines that a finding is about, with what it says under them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.render.plain import columns, source_line, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_compiler.diagnostics import Span
    from silogen_compiler.render.frame import Frame


class Pointer(NamedTuple):
    """A place to underline, what to write behind it, and the kind that gives its colour and its underline."""

    span: Span
    text: str
    kind: str


def snippet(pointers: list[Pointer], rows: list[str], frame: Frame) -> Iterator[str]:
    """Yield the lines of one file that `pointers` are about, from top to bottom; dots stand for a gap."""
    yield frame.row(None)
    above = None
    ordered = sorted(pointers, key=lambda pointer: pointer.span.line)
    for number, group in groupby(ordered, key=lambda pointer: pointer.span.line):
        if above is not None and number > above + 2:
            yield frame.gap()
        elif above is not None and number == above + 2:
            yield frame.row(above + 1, _window(source_line(rows[above]), frame.width))
        yield from _line(list(group), source_line(rows[number - 1]), frame)
        above = number


def fits(pointers: list[Pointer], rows: list[str], frame: Frame) -> bool:
    """Return whether the lines can be shown whole, so that every pointer has its place."""
    return all(columns(source_line(rows[pointer.span.line - 1])) <= frame.width for pointer in pointers)


def _line(pointers: list[Pointer], row: str, frame: Frame) -> Iterator[str]:
    """Yield a source line and the underlines of `pointers`, one of which may be wider than the window."""
    first = pointers[0]
    before, marked, after = _cut(row, first.span, frame.width)
    yield frame.row(first.span.line, f"{before}{marked}{after}")
    yield _underline(first, before, marked, frame)
    for pointer in pointers[1:]:
        before, marked, _ = _cut(row, pointer.span, frame.width)
        yield _underline(pointer, before, marked, frame)


def _underline(pointer: Pointer, before: str, marked: str, frame: Frame) -> str:
    line = ("-" if pointer.kind == "note" else "^") * max(columns(marked), 1)
    label = f" {words(pointer.text)}" if pointer.text else ""
    return frame.row(None, " " * columns(before) + frame.paint(line + label, pointer.kind))


def _cut(row: str, span: Span, width: int) -> tuple[str, str, str]:
    """Return what stands before, in and behind the span, shortened to a window around it."""
    start, end = span.column - 1, max(span.end - 1, span.column)
    before, marked, after = row[:start].ljust(start), row[start:end], row[end:]
    if columns(row) <= width:
        return before, marked, after
    marked = _window(marked, width // 2)
    room = width - columns(marked)
    if columns(before) > room // 2:
        before = "..." + _window(before[::-1], room // 2 - 3, "")[::-1]
    return before, marked, _window(after, room - columns(before))


def _window(text: str, width: int, dots: str = "...") -> str:
    """Return as much of the start of text as fits, with dots where that is not all."""
    if columns(text) <= width:
        return text
    kept, used = [], len(dots)
    for char in text:
        used += columns(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + dots
