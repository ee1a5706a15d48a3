"""YAML with the scalars of the 1.2 core schema: `1e-5` is a number, `no` is text, `0755` is 755."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from functools import partial
from math import inf
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from silogen_compiler.diagnostics import Diagnostic, Refused, Span
from silogen_compiler.load import MAX_ALIASED, MAX_DEPTH, Mark, Path, Tree

try:
    from yaml import CLoader as Parser
except ImportError:  # a PyYAML without libyaml: slower, same events
    from yaml import Loader as Parser

WORDS = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
}
NUMERIC = "0123456789+-.eE"
STARTS_NUMBER = "0123456789+-."
MAX_DIGITS = 4000
OTHER_BREAKS = set("\r\x85\u2028\u2029\ufeff")  # which the parser counts as line breaks, or leaves out
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
STR_TAG = "tag:yaml.org,2002:str"

ONE_LINE = (ScalarEvent, AliasEvent)

# The two as a file makes hundreds of them: without the call of their own constructors.
new_span = partial(tuple.__new__, Span)
new_mark = partial(tuple.__new__, Mark)


def read(name: str, text: str) -> Tree:
    """Parse one YAML document. Raises Refused with the first mistake."""
    reader = _Reader(name, text)
    try:
        return reader.document()
    except yaml.YAMLError as error:
        raise Refused(reader.syntax_error(error)) from None


def _radix(text: str) -> int | str:
    """Return the number of a hexadecimal or octal text, else the text itself."""
    digits = "0123456789abcdefABCDEF" if text[1] == "x" else "01234567"
    return text if text[2:].strip(digits) or len(text) == 2 else int(text, 0)  # noqa: PLR2004 - the prefix alone


class _Reader:
    """Builds data and marks from the parser's events, which come without recursion on the parser's side."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.has_plain_lines = OTHER_BREAKS.isdisjoint(text)
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.next = Parser(text).get_event
        self.marks: dict[Path, Mark] = {}
        self.anchors: dict[str, tuple[Any, Span, dict[Path, Mark]]] = {}
        self.aliased = 0

    def document(self) -> Tree:
        self.next()  # the stream's start
        if isinstance(self.next(), StreamEndEvent):
            return Tree(None, {})
        data, _ = self.value((), self.next())
        self.next()  # the document's end
        event = self.next()
        if isinstance(event, DocumentStartEvent):
            self.refuse("SG107", "a second document starts here", event, "keep one document a file")
        return Tree(data, self.marks)

    def value(self, path: Path, event: Event) -> tuple[Any, Span]:
        """Return the value that starts with `event`, and its span; marks what lies below it."""
        if (
            type(event) is ScalarEvent
            and event.tag is None
            and event.anchor is None
            and len(path) < MAX_DEPTH
        ):
            return self.scalar(event), self.span(event)
        if isinstance(event, AliasEvent):
            return self.alias(path, event)
        span = self.span(event)
        if event.tag is not None and event.tag != "!" and event.tag not in TAGS:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.refuse("SG110", f"unknown tag `{tag}`", event, "remove the tag")
        if len(path) > MAX_DEPTH:
            self.refuse("SG108", f"nested deeper than {MAX_DEPTH} levels", event, "flatten this")
        if event.anchor is None:
            return self.content(path, event), span
        data, below = self.apart(path, event)
        self.marks |= {path + at: mark for at, mark in below.items()}
        self.anchors[event.anchor] = (data, span, below)
        return data, span

    def content(self, path: Path, event: Event) -> Any:
        if isinstance(event, ScalarEvent):
            return self.scalar(event)
        return self.sequence(path) if isinstance(event, SequenceStartEvent) else self.mapping(path)

    def apart(self, path: Path, event: Event) -> tuple[Any, dict[Path, Mark]]:
        """Return the content that starts with `event` and its marks by path below `path`, marking nothing."""
        before, self.marks = self.marks, {}
        data = self.content(path, event)
        found, self.marks = self.marks, before
        return data, {at[len(path) :]: mark for at, mark in found.items()}

    def scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if event.tag in (STR_TAG, "!") or (event.tag is None and not event.implicit[0]):
            return text
        if text in WORDS:
            return WORDS[text]
        if text[0] not in STARTS_NUMBER:
            return text
        if not text.strip(NUMERIC):
            return self.number(text, event)
        if text[:2] in ("0x", "0o"):
            return self.finite(_radix(text), text, event)
        if text.lower().lstrip("+-") in (".inf", ".nan"):
            self.refuse("SG111", f"`{text}` is not a finite number", event, "write a finite number")
        return text

    def number(self, text: str, event: ScalarEvent) -> Any:
        """Return the number that `text`, of digits, signs, points and e's, is; else the text itself."""
        try:
            number = float(text)
        except ValueError:
            return text
        self.finite(inf if len(text) > MAX_DIGITS else number, text, event)
        return int(text) if text.lstrip("+-").isdecimal() else number

    def finite(self, number: float | str, text: str, event: ScalarEvent) -> float | str:
        """Return a number, which `text` writes. Refused where none of 64 bits is as large."""
        if not isinstance(number, str) and abs(number) > sys.float_info.max:
            self.refuse("SG111", f"`{text[:20]}` is not a finite number", event, "write a finite number")
        return number

    def sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while type(event := self.next()) is not SequenceEndEvent:
            here = (*path, len(items))
            data, span = self.value(here, event)
            self.marks[here] = new_mark((None, span))
            items.append(data)
        return items

    def mapping(self, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, tuple[Any, dict[Path, Mark]]] = {}
        while type(event := self.next()) is not MappingEndEvent:
            if type(event) is not ScalarEvent:
                self.refuse("SG109", "a key must be text", event, "write a plain word as key")
            key: str = event.value
            if key == "<<" and event.implicit[0]:
                self.merge(path, merged)
                continue
            here = (*path, key)
            if key in data:
                first = self.marks[here].key or self.span(event)
                self.refuse("SG104", f"the key `{key}` stands twice", event, f"first on line {first.line}")
            data[key], span = self.value(here, self.next())
            self.marks[here] = new_mark((self.span(event), span))
        for key, (value, below) in merged.items():
            if key not in data:
                data[key] = value
                self.marks |= {path + at: mark for at, mark in below.items()}
        return data

    def merge(self, path: Path, merged: dict[str, tuple[Any, dict[Path, Mark]]]) -> None:
        """Collect the keys of a merge (`<<: *base`); among several mappings the first wins."""
        event = self.next()
        before, self.marks = self.marks, {}
        data, _ = self.value(path, event)
        found, self.marks = self.marks, before
        sources = data if isinstance(data, list) else [data]
        for index, source in enumerate(sources):
            if not isinstance(source, dict):
                self.refuse("SG109", "`<<` takes a mapping or a list of mappings", event, "write an alias")
            base = (*path, index) if isinstance(data, list) else path
            below: dict[Any, dict[Path, Mark]] = {key: {} for key in source}
            for at, mark in found.items():
                if len(at) > len(base) and at[: len(base)] == base:
                    below[at[len(base)]][at[len(base) :]] = mark
            for key in source:
                merged.setdefault(key, (source[key], below[key]))

    def alias(self, path: Path, event: AliasEvent) -> tuple[Any, Span]:
        if event.anchor not in self.anchors:
            self.refuse("SG103", f"no anchor `&{event.anchor}` stands before this alias", event, "")
        data, span, below = self.anchors[event.anchor]
        self.aliased += len(below) + 1
        if self.aliased > MAX_ALIASED:
            self.refuse(
                "SG105", f"aliases expand to more than {MAX_ALIASED:,} values", event, "use fewer aliases"
            )
        if any(len(path) + len(at) > MAX_DEPTH for at in below):
            self.refuse("SG108", f"nested deeper than {MAX_DEPTH} levels", event, "flatten this")
        self.marks |= {path + at: mark for at, mark in below.items()}
        return data, span

    def span(self, event: Event) -> Span:
        """Return the place of a scalar on its first line; of a mapping or list only where it starts."""
        start = event.start_mark
        end = event.end_mark if type(event) in ONE_LINE else start
        if self.has_plain_lines and (line := start.line) == end.line:
            return new_span((self.name, line + 1, start.column + 1, end.column + 1))
        return self.place(start.index, end.index)

    def place(self, start: int, end: int) -> Span:
        """Return the place of text[start:end], up to the end of its first line.

        The parser's own line numbers count more characters as line breaks than editors do.
        """
        line = bisect_right(self.line_starts, start)
        first = self.line_starts[line - 1]
        if "\n" in self.text[start:end]:
            end = max(start, first + len(self.text[first : self.line_end(line)].rstrip()))
        return Span(self.name, line, start - first + 1, end - first + 1)

    def line_end(self, line: int) -> int:
        return self.line_starts[line] if line < len(self.line_starts) else len(self.text)

    def refuse(self, code: str, message: str, event: Event, label: str) -> NoReturn:
        raise Refused(Diagnostic(code, message, self.span(event), label))

    def syntax_error(self, error: yaml.YAMLError) -> Diagnostic:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        if mark is None:
            position = max(self.text.find(chr(getattr(error, "character", 0))), 0)  # theirs may count bytes
            return Diagnostic("SG103", f"not valid YAML: {problem}", self.place(position, position + 1))
        at = min(mark.index, len(self.text.rstrip()))
        place = self.place(at, at + 1)
        if "start any token" in problem and self.text[at : at + 1] == "\t":
            return Diagnostic("SG103", "a tab is used for indentation", place, "use spaces")
        return Diagnostic("SG103", f"not valid YAML: {problem}", place)
