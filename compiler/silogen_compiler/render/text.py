"""Diagnostics as people read them: the message, the line it is about, and what to write instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic, Note, Span

WIDTH = 100
COLORS = {"error": "1;31", "warning": "1;33", "note": "1;34", "frame": "1;34", "bold": "1"}

# What may hold a secret in a source line: the value of a token key, and the credentials in a URI.
SECRETS = (
    re.compile(r"(?i)(?<=token)[\"']?\s*[:=]\s*[\"']?(?!null\b|\$\{)(?P<secret>[^\s\"',}#]+)"),
    re.compile(r"://(?P<secret>[^/@\s]+)@"),
)


def render_text(diagnostics: list[Diagnostic], sources: dict[str, str], *, color: bool = False) -> str:
    """Return the findings, each followed by an empty line. `sources` maps file names to their text."""
    lines = {name: text.split("\n") for name, text in sources.items()}
    return "".join(_render(d, lines, color=color) + "\n" for d in diagnostics)


def _render(diagnostic: Diagnostic, sources: dict[str, list[str]], *, color: bool) -> str:
    span, severity = diagnostic.span, diagnostic.severity
    head = _paint(f"{severity}[{diagnostic.code}]", severity, color=color)
    out = [f"{head}{_paint(f': {_clean(diagnostic.message)}', 'bold', color=color)}"]
    rows = sources.get(span.file, []) if span else []
    has_source = span is not None and 0 < span.line <= len(rows) and bool(rows[span.line - 1].strip())
    places = [span, *(note.span for note in diagnostic.notes if not isinstance(note, str))]
    gutter = max((len(str(place.line)) for place in places if place), default=1)
    if span or diagnostic.file:
        out.append(
            f"{' ' * gutter}{_paint('-->', 'frame', color=color)} {_clean(str(span or diagnostic.file))}"
        )
    if span and has_source:
        out += _snippet(span, rows[span.line - 1], diagnostic.label, severity, gutter, color=color)
    elif diagnostic.label:
        out.append(_note(f"help: {diagnostic.label}", gutter, color=color))
    helps = [f"help: {diagnostic.help}"] if diagnostic.help else []
    for note in (*helps, *diagnostic.notes):
        out += (
            [_note(note, gutter, color=color)]
            if isinstance(note, str)
            else _place(note, sources, gutter, color=color)
        )
    return "\n".join(out) + "\n"


def _note(text: str, gutter: int, *, color: bool) -> str:
    return f"{' ' * gutter} {_paint('=', 'frame', color=color)} {_clean(text)}"


def _place(note: Note, sources: dict[str, list[str]], gutter: int, *, color: bool) -> list[str]:
    """Return the lines for a second place: where it is, and its source line with what stands there."""
    if note.span is None:
        return [_note(note.text, gutter, color=color)]
    rows = sources.get(note.span.file, [])
    out = [f"{' ' * gutter}{_paint(':::', 'frame', color=color)} {_clean(str(note.span))}"]
    if 0 < note.span.line <= len(rows):
        return out + _snippet(note.span, rows[note.span.line - 1], note.text, "note", gutter, color=color)
    return [_note(f"{note.text} ({note.span})", gutter, color=color)]


def _snippet(  # noqa: PLR0913 - what a line shows
    span: Span, row: str, text: str, kind: str, gutter: int, *, color: bool
) -> list[str]:
    """Return a source line with the span underlined: by carets, or by dashes for a note."""
    bar = _paint("|", "frame", color=color)
    number = _paint(str(span.line).rjust(gutter), "frame", color=color)
    before, marked, after = _cut(_redact(_clean(row.rstrip("\r"))), span)
    label = f" {_clean(text)}" if text else ""
    underline = ("-" if kind == "note" else "^") * max(_columns(marked), 1)
    pointer = _paint(underline + label, kind, color=color)
    return [
        f"{' ' * gutter} {bar}",
        f"{number} {bar} {before}{marked}{after}".rstrip(),
        f"{' ' * gutter} {bar} {' ' * _columns(before)}{pointer}",
    ]


def _cut(row: str, span: Span) -> tuple[str, str, str]:
    """Return what stands before, in and behind the span, shortened to a window around it."""
    start, end = span.column - 1, max(span.end - 1, span.column)
    before, marked, after = row[:start].ljust(start), row[start:end], row[end:]
    if len(row) <= WIDTH:
        return before, marked, after
    if len(marked) > WIDTH // 2:
        marked = marked[: WIDTH // 2] + "..."
    room = WIDTH - len(marked)
    if len(before) > room // 2:
        before = "..." + before[-(room // 2 - 3) :]
    if len(after) > room - len(before):
        after = after[: max(room - len(before) - 3, 0)] + "..."
    return before, marked, after


def _clean(text: str) -> str:
    """Return text without what could move a terminal's cursor."""
    return "".join(
        char if char.isprintable() else " " if char in "\t\n" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def _redact(row: str) -> str:
    """Return a source line with stars in place of secrets."""
    for pattern in SECRETS:
        for match in pattern.finditer(row):
            start, end = match.span("secret")
            row = row[:start] + "*" * (end - start) + row[end:]
    return row


def _columns(text: str) -> int:
    """Return how many terminal columns text takes."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _paint(text: str, color_name: str, *, color: bool) -> str:
    return f"\033[{COLORS[color_name]}m{text}\033[0m" if color else text
