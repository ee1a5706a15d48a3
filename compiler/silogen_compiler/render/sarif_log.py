"""Findings as a SARIF 2.1.0 log, the form that code scanning reads."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from silogen_compiler.codes import CODES
from silogen_compiler.diagnostics import Note, Span
from silogen_compiler.render.plain import sentences, words

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic

Object = dict[str, Any]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"


def render_sarif(diagnostics: list[Diagnostic], sources: dict[str, str]) -> str:
    """Return a log of one run. Files in the working directory are named relative to it, others whole."""
    codes = sorted({diagnostic.code for diagnostic in diagnostics})
    run = {
        "tool": {"driver": {**_tool(), "rules": [_rule(code) for code in codes]}},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The directory that silogen ran in."}}},
        "results": [_result(diagnostic, codes, sources) for diagnostic in diagnostics],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _tool() -> Object:
    try:
        return {"name": "silogen", "version": version("silogen")}
    except PackageNotFoundError:  # run from its sources
        return {"name": "silogen"}


def _rule(code: str) -> Object:
    severity, title, meaning = CODES[code]
    return {
        "id": code,
        "name": "".join(word[:1].upper() + word[1:] for word in title.replace("-", " ").split()),
        "shortDescription": {"text": f"{title[:1].upper()}{title[1:]}."},
        "fullDescription": {"text": meaning},
        "help": {"text": f"{meaning}\n`silogen explain {code}` says more."},
        "defaultConfiguration": {"level": severity},
    }


def _result(diagnostic: Diagnostic, codes: list[str], sources: dict[str, str]) -> Object:
    related = [note for note in diagnostic.notes if isinstance(note, Note) and note.span]
    parts = {
        "ruleId": diagnostic.code,
        "ruleIndex": codes.index(diagnostic.code),
        "level": diagnostic.severity,
        "message": {"text": "\n".join(sentences(diagnostic, with_places=False))},
        "locations": _locations(diagnostic),
        "relatedLocations": [
            {"id": number, "physicalLocation": _place(note.span), "message": {"text": words(note.text)}}
            for number, note in enumerate(related)
            if note.span
        ],
        "fixes": _fixes(diagnostic, sources),
    }
    return {key: part for key, part in parts.items() if part not in ([], None)}


def _locations(diagnostic: Diagnostic) -> list[Object]:
    if diagnostic.span:
        return [{"physicalLocation": _place(diagnostic.span)}]
    if diagnostic.file:
        return [{"physicalLocation": _place(Span(diagnostic.file, 1, 1, 1))}]  # code scanning wants a line
    return []


def _place(span: Span) -> Object:
    return {"artifactLocation": _artifact(span.file), "region": _region(span)}


def _region(span: Span) -> Object:
    end = max(span.end, span.column)
    return {"startLine": span.line, "startColumn": span.column, "endLine": span.line, "endColumn": end}


def _artifact(name: str) -> Object:
    """Return where a file is: relative to the working directory, or a whole URI where it is outside."""
    relative = os.path.relpath(name)
    if relative.startswith(os.pardir):
        return {"uri": Path(name).absolute().as_uri()}
    return {"uri": quote(relative.replace(os.sep, "/")), "uriBaseId": ROOT}


def _fixes(diagnostic: Diagnostic, sources: dict[str, str]) -> list[Object]:
    """Return the fix where it is exact: a key that stands at the finding's place gets another name."""
    span, fix = diagnostic.span, diagnostic.fix
    if span is None or fix is None or len(fix.edits) != 1:
        return []
    path, key, value = fix.edits[0]
    rows = sources.get(span.file, "").split("\n")
    here = rows[span.line - 1][span.column - 1 : span.end - 1] if span.line <= len(rows) else ""
    if key is None or value is not ... or here != path[-1]:
        return []
    replacement = {"deletedRegion": _region(span), "insertedContent": {"text": key}}
    change = {"artifactLocation": _artifact(span.file), "replacements": [replacement]}
    return [{"description": {"text": f"Write `{key}`."}, "artifactChanges": [change]}]
