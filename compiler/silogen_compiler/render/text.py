"""Findings as people read them: the message, the line it is about, and what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Note
from silogen_compiler.render.fixes import describe_fix
from silogen_compiler.render.frame import Frame
from silogen_compiler.render.plain import words
from silogen_compiler.render.snippet import Pointer, fits, snippet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_compiler.diagnostics import Diagnostic, Span

WIDTH = 100

# A second place at most this many lines away is shown in one snippet with the first.
NEAR = 8


def render_text(
    diagnostics: list[Diagnostic], sources: dict[str, str], *, color: bool = False, width: int = WIDTH
) -> str:
    """Return the findings, each followed by an empty line. `sources` maps file names to their text."""
    rows = {name: text.split("\n") for name, text in sources.items()}
    findings = [_Finding(diagnostic, rows, width, color=color) for diagnostic in diagnostics]
    return "".join("\n".join(finding.lines()) + "\n\n" for finding in findings)


class _Finding:
    """One finding with the source that it is shown in."""

    def __init__(
        self, diagnostic: Diagnostic, sources: dict[str, list[str]], width: int, *, color: bool
    ) -> None:
        self.diagnostic = diagnostic
        self.sources = sources
        places = [diagnostic.span, *(note.span for note in diagnostic.notes if isinstance(note, Note))]
        margin = max((len(str(place.line)) for place in places if place), default=1)
        self.frame = Frame(margin, width, color)

    def lines(self) -> Iterator[str]:
        found, frame = self.diagnostic, self.frame
        pointers = self._pointers()
        head = frame.paint(f"{found.severity}[{found.code}]", found.severity)
        yield head + frame.paint(f": {words(found.message)}", "bold")
        if found.span or found.file:
            yield frame.place("-->", found.span or found.file)
        if pointers:
            yield from snippet(pointers, self.sources[pointers[0].span.file], frame)
        elif found.label:
            yield from frame.note(found.label, "help: ")
        if found.help:
            yield from frame.note(found.help, "help: ")
        if found.fix:
            yield from frame.note(describe_fix(found.fix), "fix: ")
        shown = {pointer.span for pointer in pointers[1:]}
        for note in found.notes:
            if isinstance(note, str) or note.span not in shown:
                yield from self._note(note)

    def _pointers(self) -> list[Pointer]:
        """Return what the first snippet underlines: the finding's place, and others close to it."""
        found = self.diagnostic
        if found.span is None or not self._row(found.span).strip():
            return []
        first = Pointer(found.span, found.label, found.severity)
        near = [
            Pointer(note.span, note.text, "note")
            for note in found.notes
            if isinstance(note, Note) and note.span and _is_near(note.span, found.span)
        ]
        together = [first, *(pointer for pointer in near if self._row(pointer.span).strip())]
        return together if fits(together, self.sources[found.span.file], self.frame) else [first]

    def _row(self, span: Span) -> str:
        """Return the source line of a span, or an empty text where its source is not there."""
        rows = self.sources.get(span.file, [])
        return rows[span.line - 1] if 0 < span.line <= len(rows) else ""

    def _note(self, note: str | Note) -> Iterator[str]:
        """Yield a note; one about a place that is not shown yet names it and shows it."""
        if isinstance(note, str):
            heading, _, rest = note.partition(": ")
            yield from self.frame.note(rest, f"{heading}: ") if heading.isalpha() else self.frame.note(note)
        elif note.span is None:
            yield from self.frame.note(note.text)
        elif self._row(note.span):
            yield self.frame.place(":::", note.span)
            pointer = Pointer(note.span, note.text, "note")
            yield from snippet([pointer], self.sources[note.span.file], self.frame)
        else:
            yield from self.frame.note(f"{note.text} ({note.span})")


def _is_near(span: Span, other: Span) -> bool:
    return span.file == other.file and span != other and abs(span.line - other.line) <= NEAR
