"""Findings as one JSON array, for editors and scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from silogen_compiler.render.plain import words

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic, Edit, Fix, Note, Span


def render_json(diagnostics: list[Diagnostic], sources: dict[str, str]) -> str:
    """Return an array of objects, one a finding; a place that is not known is null, and nothing is left out.

    Lines and columns count characters from 1; `end_column` is behind the last character.
    """
    del sources
    return json.dumps([_finding(diagnostic) for diagnostic in diagnostics], indent=2) + "\n"


def _finding(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": words(diagnostic.message),
        **_place(diagnostic.span, diagnostic.file),
        "label": words(diagnostic.label),
        "help": words(diagnostic.help),
        "notes": [_note(note) for note in diagnostic.notes],
        "fix": diagnostic.fix and _fix(diagnostic.fix),
    }


def _place(span: Span | None, file: str = "") -> dict[str, Any]:
    if span is None:
        return {"file": file or None, "line": None, "column": None, "end_column": None}
    return {"file": span.file, "line": span.line, "column": span.column, "end_column": span.end}


def _note(note: str | Note) -> dict[str, Any]:
    text, span = (note, None) if isinstance(note, str) else note
    return {"text": words(text), **_place(span)}


def _fix(fix: Fix) -> dict[str, Any]:
    return {"safety": "safe" if fix.is_safe else "unsafe", "edits": [_edit(edit) for edit in fix.edits]}


def _edit(edit: Edit) -> dict[str, Any]:
    """Return an edit as an object that holds a new key, a new value, both, or the word that it removes."""
    change: dict[str, Any] = {"path": list(edit.path)}
    if edit.key is not None:
        change["key"] = edit.key
    if edit.value is not ...:
        change["value"] = _shown(edit.value)
    return change if len(change) > 1 else {**change, "remove": True}


def _shown(value: Any) -> Any:
    """Return a value of a config without the secrets in its texts."""
    if isinstance(value, dict):
        return {words(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return words(value) if isinstance(value, str) else value
