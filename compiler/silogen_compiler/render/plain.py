"""What of a person's text may be shown: no control characters, no secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from silogen_compiler.rules.secrets import CREDENTIALS

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic

# The value of a token key in a source line, which may be a secret.
TOKEN = re.compile(r"(?i)(?<=token)[\"']?\s*[:=]\s*[\"']?(?!null\b|\$\{)(?P<secret>[^\s\"',}#]+)")


def clean(text: str) -> str:
    """Return text on one line, without what could move a terminal's cursor."""
    return "".join(
        char if char.isprintable() else " " if char in "\t\n" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def source_line(row: str) -> str:
    """Return a line of a file as it may be shown, with stars in place of secrets."""
    return _starred(_starred(clean(row.rstrip("\r")), TOKEN), CREDENTIALS)


def words(text: str) -> str:
    """Return a message, label or note as it may be shown."""
    return _starred(clean(text), CREDENTIALS)


def columns(text: str) -> int:
    """Return how many terminal columns text takes."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def sentences(diagnostic: Diagnostic, *, with_places: bool) -> list[str]:
    """Return what a finding says: the message, the label, the help, and the notes.

    Notes about a place name it, or are left out for a form that has its own way of showing them.
    """
    notes = [
        note if isinstance(note, str) else f"{note.text} ({note.span})" if note.span else note.text
        for note in diagnostic.notes
        if with_places or isinstance(note, str) or note.span is None
    ]
    return [words(text) for text in (diagnostic.message, diagnostic.label, diagnostic.help, *notes) if text]


def _starred(text: str, pattern: re.Pattern[str]) -> str:
    for match in pattern.finditer(text):
        start, end = match.span("secret")
        text = text[:start] + "*" * (end - start) + text[end:]
    return text
