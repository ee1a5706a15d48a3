"""Diagnostics as people read them: the message, the line it is about, and what to write instead."""

from __future__ import annotations

import re
from unicodedata import east_asian_width

from silogen_compiler.diagnostics import Diagnostic, Span

WIDTH = 100
COLORS = {"error": "1;31", "warning": "1;33", "frame": "1;34", "bold": "1"}

# What may hold a secret in a source line: the value of a token key, and the credentials in a URI.
SECRETS = (
    (re.compile(r"(?i)(\w*token[\"']?\s*[:=]\s*)(?!null\b|\$\{)([\"']?)[^\s\"',}#]+\2"), r"\1***"),
    (re.compile(r"(://)[^/@\s]+(?=@)"), r"\1***"),
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
    gutter = len(str(span.line)) if span else 1
    if span or diagnostic.file:
        out.append(f"{' ' * gutter}{_paint('-->', 'frame', color=color)} {span or diagnostic.file}")
    if span and has_source:
        out += _snippet(span, rows[span.line - 1], diagnostic, gutter, color=color)
    elif diagnostic.label:
        out.append(_note(f"help: {diagnostic.label}", gutter, color=color))
    helps = [f"help: {diagnostic.help}"] if diagnostic.help else []
    out += [_note(text, gutter, color=color) for text in (*helps, *diagnostic.notes)]
    return "\n".join(out) + "\n"


def _note(text: str, gutter: int, *, color: bool) -> str:
    return f"{' ' * gutter} {_paint('=', 'frame', color=color)} {_clean(text)}"


def _snippet(span: Span, row: str, diagnostic: Diagnostic, gutter: int, *, color: bool) -> list[str]:
    bar = _paint("|", "frame", color=color)
    number = _paint(str(span.line).rjust(gutter), "frame", color=color)
    before, marked, after = _cut(row, span)
    carets = "^" * max(_columns(marked), 1)
    label = f" {_clean(diagnostic.label)}" if diagnostic.label else ""
    pointer = _paint(carets + label, diagnostic.severity, color=color)
    source = _redact(before + marked + after)
    shift = 0 if source.startswith(before) else _columns(before) - len(source.partition(marked)[0])
    return [
        f"{' ' * gutter} {bar}",
        f"{number} {bar} {source}".rstrip(),
        f"{' ' * gutter} {bar} {' ' * (_columns(before) - shift)}{pointer}",
    ]


def _cut(row: str, span: Span) -> tuple[str, str, str]:
    """Return what stands before, in and behind the span, shortened to a window around it."""
    row = _clean(row.rstrip("\r"))
    start, end = span.column - 1, max(span.end - 1, span.column)
    before, marked, after = row[:start].ljust(start), row[start:end], row[end:]
    room = max(WIDTH - len(marked), 40)
    if len(marked) > WIDTH:
        marked = marked[: WIDTH - 3] + "..."
    if len(before) > room // 2:
        before = "..." + before[-(room // 2 - 3) :]
    if len(after) > room - len(before):
        after = after[: max(room - len(before) - 3, 0)] + "..."
    return before, marked, after


def _clean(text: str) -> str:
    """Return text without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else " " if char in "\t\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _redact(text: str) -> str:
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _columns(text: str) -> int:
    """Return how many terminal columns text takes."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _paint(text: str, color_name: str, *, color: bool) -> str:
    return f"\033[{COLORS[color_name]}m{text}\033[0m" if color else text
