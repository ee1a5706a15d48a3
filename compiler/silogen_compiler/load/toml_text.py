"""TOML with a span for every key and its value.

tomllib keeps no positions. A private copy of its parser has two functions wrapped: the one that reads a
`key = value` line and the one that reads an array's table header tell where they stand.
"""

from __future__ import annotations

import importlib.util
import re
from datetime import date, datetime, time
from math import isfinite
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused, Span
from silogen_compiler.load import MAX_DEPTH, Mark, Path, Tree

if TYPE_CHECKING:
    from types import ModuleType

PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


def read(name: str, text: str) -> Tree:
    """Parse a TOML document. Raises Refused with the first mistake."""
    source = text.replace("\r\n", "\n")
    parser = _own_parser()
    found: list[tuple[Path, int, int]] = []
    _record_positions(parser, found)
    try:
        data = parser.loads(source)
    except ValueError as error:
        raise Refused(_syntax_error(name, source, str(error))) from None
    except RecursionError:
        raise Refused(Diagnostic("SG108", f"nested deeper than {MAX_DEPTH} levels", file=name)) from None
    marks = _marks(name, source, found)
    return Tree(_plain(data, (), marks, name), marks)


def _own_parser() -> ModuleType:
    spec = importlib.util.find_spec("tomllib._parser")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _record_positions(parser: ModuleType, found: list[tuple[Path, int, int]]) -> None:
    """Make the parser append (path, start, end) of each `key = value` line and of each table header."""
    counts: dict[Path, int] = {}
    rule, table, array = parser.key_value_rule, parser.create_dict_rule, parser.create_list_rule

    def place(header: Path) -> Path:
        """Return the header with the index of the current item behind each array of tables."""
        out: Path = ()
        for end in range(1, len(header) + 1):
            out = (*out, header[end - 1])
            if header[:end] in counts:
                out = (*out, counts[header[:end]])
        return out

    def key_value(src: str, pos: int, out: Any, header: Path, parse_float: Any) -> int:
        _, key = parser.parse_key(src, pos)
        end: int = rule(src, pos, out, header, parse_float)
        found.append((place(header) + key, pos, end))
        return end

    def create_dict(src: str, pos: int, out: Any) -> tuple[int, Path]:
        end, header = table(src, pos, out)
        found.append((place(header), pos, end))
        return end, header

    def create_list(src: str, pos: int, out: Any) -> tuple[int, Path]:
        end, header = array(src, pos, out)
        counts[header] = counts.get(header, -1) + 1
        for below in [at for at in counts if at[: len(header)] == header and at != header]:
            del counts[below]
        found.append((place(header), pos, end))
        return end, header

    parser.key_value_rule, parser.create_dict_rule = key_value, create_dict  # type: ignore[attr-defined]
    parser.create_list_rule = create_list  # type: ignore[attr-defined]


def _marks(name: str, text: str, found: list[tuple[Path, int, int]]) -> dict[Path, Mark]:
    """Return the marks of what was found, in the order of the text."""
    marks: dict[Path, Mark] = {}
    row, counted = 1, 0
    for path, start, end in found:
        row, counted = row + text.count("\n", counted, start), start
        line = text[start:end].split("\n", 1)[0].rstrip()
        column = start - text.rfind("\n", 0, start)
        whole = Span(name, row, column, column + len(line))
        key, _, value = line.partition("=")
        key_span = Span(name, row, column, column + len(key.rstrip()))
        at = column + len(line) - len(value.lstrip())
        is_header = line.startswith("[")
        marks[path] = (
            Mark(whole, whole) if is_header else Mark(key_span, Span(name, row, at, column + len(line)))
        )
    return marks


def _plain(value: Any, path: Path, marks: dict[Path, Mark], name: str) -> Any:
    """Return `value` with dates as text. Numbers that are not finite and deep nesting are refused."""
    if len(path) > MAX_DEPTH:
        raise Refused(Diagnostic("SG108", f"nested deeper than {MAX_DEPTH} levels", file=name))
    if isinstance(value, dict):
        return {key: _plain(item, (*path, key), marks, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, (*path, index), marks, name) for index, item in enumerate(value)]
    if isinstance(value, float) and not isfinite(value):
        mark = marks.get(path)
        raise Refused(
            Diagnostic("SG111", f"`{value}` is not a finite number", mark and mark.value, file=name)
        )
    return value.isoformat() if isinstance(value, (date, datetime, time)) else value


def _syntax_error(name: str, text: str, message: str) -> Diagnostic:
    place = PLACE.search(message)
    problem = PLACE.sub("", message)
    code = "SG104" if "overwrite" in problem or "twice" in problem else "SG103"
    last = text.count("\n") + 1
    line, column = (int(place[1]), int(place[2])) if place and place[1] else (last, 1)
    words = f"not valid TOML: {problem[:1].lower()}{problem[1:]}"
    return Diagnostic(code, words, Span(name, line, column, column + 1))
