"""JSON with a span for every key and value."""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined] # the parser of a JSON string, public in fact
from math import isfinite
from typing import Any, NoReturn

from silogen_compiler.diagnostics import Diagnostic, Refused, Span
from silogen_compiler.load import MAX_DEPTH, Mark, Path, Tree

SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
WORD = re.compile(r"[A-Za-z]+")
WORDS = {"null": None, "true": True, "false": False}

# What the parser of strings finds wrong, in words.
STRING_ERRORS = {
    "Unterminated string": "a string is not closed",
    "Invalid control character": "a line break or control character stands in a string",
    "Invalid \\": "an unknown escape stands in a string",
}


def read(name: str, text: str) -> Tree:
    """Parse one JSON value. Raises Refused with the first mistake."""
    if not text.strip():
        return Tree(None, {})
    reader = _Reader(name, text)
    data, _, end = reader.value((), reader.space(0))
    if reader.space(end) < len(text):
        reader.refuse("SG107", "text goes on after the config's end", reader.space(end))
    return Tree(data, reader.marks)


class _Reader:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.marks: dict[Path, Mark] = {}
        self.line, self.line_start, self.counted = 1, 0, 0

    def space(self, at: int) -> int:
        match = SPACE.match(self.text, at)
        return match.end() if match else at

    def value(self, path: Path, at: int) -> tuple[Any, Span, int]:
        """Return the value at `at`, its span, and where it ends; marks what lies below it."""
        first = self.text[at : at + 1]
        if len(path) > MAX_DEPTH:
            self.refuse("SG108", f"nested deeper than {MAX_DEPTH} levels", at)
        if first in ("{", "["):
            span = self.span(at, at)
            read = self.mapping if first == "{" else self.sequence
            data, end = read(path, self.space(at + 1))
            return data, span, end
        data, end = self.scalar(at)
        return data, self.span(at, end), end

    def scalar(self, at: int) -> tuple[Any, int]:
        if self.text[at : at + 1] == '"':
            return self.string(at)
        if match := NUMBER.match(self.text, at):
            return self.number(match), match.end()
        word = WORD.match(self.text, at)
        if word and word[0] in WORDS:
            return WORDS[word[0]], word.end()
        problem = f"`{word[0]}` is no value" if word else "a value is missing here"
        self.refuse("SG103", f"not valid JSON: {problem}", at)
        return None

    def string(self, at: int) -> tuple[str, int]:
        try:
            text, end = scanstring(self.text, at + 1, True)  # noqa: FBT003 - strict; it takes no keyword
        except json.JSONDecodeError as error:
            known = (text for start, text in STRING_ERRORS.items() if error.msg.startswith(start))
            problem = next(known, "a string is damaged")
            self.refuse("SG103", f"not valid JSON: {problem}", min(error.pos, len(self.text) - 1))
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            self.refuse("SG103", "not valid JSON: half a surrogate pair is no character", at)
        return text, end

    def number(self, match: re.Match[str]) -> int | float:
        text = match[0]
        if not isfinite(float(text)):
            self.refuse("SG111", f"`{text[:20]}` is not a finite number", match.start())
        return float(text) if match[1] or match[2] else int(text)

    def sequence(self, path: Path, at: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while self.text[at : at + 1] != "]":
            here = (*path, len(items))
            data, span, end = self.value(here, at)
            items.append(data)
            self.marks[here] = Mark(None, span)
            at = self.separator(end, "]")
        return items, at + 1

    def mapping(self, path: Path, at: int) -> tuple[dict[str, Any], int]:
        data: dict[str, Any] = {}
        while self.text[at : at + 1] != "}":
            if self.text[at : at + 1] != '"':
                self.refuse("SG103", "not valid JSON: a key in double quotes is missing here", at)
            key, end = self.string(at)
            here, key_span = (*path, key), self.span(at, end)
            if key in data:
                first = self.marks[here].value.line
                self.refuse("SG104", f"the key `{key}` stands twice; first on line {first}", at)
            colon = self.space(end)
            if self.text[colon : colon + 1] != ":":
                self.refuse("SG103", "not valid JSON: a colon is missing here", colon)
            data[key], span, end = self.value(here, self.space(colon + 1))
            self.marks[here] = Mark(key_span, span)
            at = self.separator(end, "}")
        return data, at + 1

    def separator(self, end: int, close: str) -> int:
        """Return where the next item starts, or where `close` stands."""
        at = self.space(end)
        if self.text[at : at + 1] == close:
            return at
        if self.text[at : at + 1] != ",":
            self.refuse("SG103", f"not valid JSON: `,` or `{close}` is missing here", at)
        after = self.space(at + 1)
        if self.text[after : after + 1] == close:
            self.refuse("SG103", "not valid JSON: no comma may stand before the end", at)
        return after

    def span(self, at: int, end: int) -> Span:
        """Return the place of text[at:end]; calls come in rising order, so lines are counted once."""
        if at >= self.counted:
            self.line += self.text.count("\n", self.counted, at)
            self.line_start = self.text.rfind("\n", 0, at) + 1
            self.counted = at
        column = at - self.line_start + 1
        return Span(self.name, self.line, column, column + end - at)

    def refuse(self, code: str, message: str, at: int) -> NoReturn:
        before = self.text[:at]
        line, column = before.count("\n") + 1, at - before.rfind("\n")
        raise Refused(Diagnostic(code, message, Span(self.name, line, column, column + 1)))
