"""Findings as workflow commands, which GitHub shows beside the lines of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.render.plain import clean, sentences

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic

# What a command cannot hold as it is; in a property, the signs between properties as well.
IN_TEXT = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
IN_PROPERTY = {**IN_TEXT, **str.maketrans({":": "%3A", ",": "%2C"})}


def render_github(diagnostics: list[Diagnostic], sources: dict[str, str]) -> str:
    """Return one workflow command a finding."""
    del sources
    return "".join(_command(diagnostic) for diagnostic in diagnostics)


def _command(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    found: dict[str, str | int] = {"file": clean(span.file if span else diagnostic.file)}
    if span:
        found |= {"line": span.line, "endLine": span.line, "col": span.column, "endColumn": span.end}
    found["title"] = diagnostic.code
    properties = ",".join(f"{key}={str(text).translate(IN_PROPERTY)}" for key, text in found.items() if text)
    text = "\n".join(sentences(diagnostic, with_places=True)).translate(IN_TEXT)
    return f"::{diagnostic.severity} {properties}::{text}\n"
