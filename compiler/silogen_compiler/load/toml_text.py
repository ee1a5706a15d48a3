"""TOML with a span for every key and its value.

tomllib keeps no positions. A private copy of its parser has two functions wrapped: the one that reads a
`key = value` line and the one that reads an array's table header tell where they stand.

TOML has no null. A resolved config lists the keys that hold it, which are put back here.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from contextlib import suppress
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused, Span
from silogen_compiler.load import MAX_DEPTH, Mark, Path, Tree

if TYPE_CHECKING:
    from types import ModuleType

# A path, and where its key starts and ends and its line ends; of a table's header the whole line is the key.
Found = tuple[Path, int, int, int]

LARGEST = sys.float_info.max

# Where a resolved config lists the paths of its nulls.
NULLS = ("toml", "nulls")
RESOLVED = "silogen.resolved/"

TWICE = re.compile(r"Cannot declare \('([^']*)'.*\) twice")
PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


def read(name: str, text: str) -> Tree:
    """Parse a TOML document. Raises Refused with the first mistake."""
    source = text.replace("\r\n", "\n")
    parser = _own_parser()
    found: list[Found] = []
    _record_positions(parser, found)
    try:
        data = parser.loads(source)
    except ValueError as error:
        raise Refused(_syntax_error(name, source, str(error))) from None
    except RecursionError:
        raise Refused(Diagnostic("SG108", f"nested deeper than {MAX_DEPTH} levels", file=name)) from None
    marks = _marks(name, source, found)
    plain = _plain(data, (), marks, name)
    if str(plain.get("apiVersion")).startswith(RESOLVED):
        _put_nulls_back(plain)
    return Tree(plain, marks)


def _put_nulls_back(data: dict[str, Any]) -> None:
    """Set what a resolved config lists as null; a list that is not as it was written is left there."""
    table, key = NULLS
    listed = data.get(table)
    if not isinstance(listed, dict) or not isinstance(listed.get(key), list):
        return
    with suppress(KeyError, IndexError, TypeError, ValueError):
        for *sections, last in listed[key]:
            node: Any = data
            for section in sections:
                node = node[section]
            node[last] = None
        del data[table]


def _own_parser() -> ModuleType:
    spec = importlib.util.find_spec("tomllib._parser")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _record_positions(parser: ModuleType, found: list[Found]) -> None:
    """Make the parser append what it finds: each `key = value` line and each table header."""
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
        key_end, key = parser.parse_key(src, pos)
        end: int = rule(src, pos, out, header, parse_float)
        found.append((place(header) + key, pos, key_end, end))
        return end

    def create_dict(src: str, pos: int, out: Any) -> tuple[int, Path]:
        end, header = table(src, pos, out)
        found.append((place(header), pos, end, end))
        return end, header

    def create_list(src: str, pos: int, out: Any) -> tuple[int, Path]:
        end, header = array(src, pos, out)
        counts[header] = counts.get(header, -1) + 1
        for below in [at for at in counts if at[: len(header)] == header and at != header]:
            del counts[below]
        found.append((place(header), pos, end, end))
        return end, header

    parser.key_value_rule, parser.create_dict_rule = key_value, create_dict  # type: ignore[attr-defined]
    parser.create_list_rule = create_list  # type: ignore[attr-defined]


def _marks(name: str, text: str, found: list[Found]) -> dict[Path, Mark]:
    """Return the marks of what was found, in the order of the text; a dotted key marks its sections too."""
    marks: dict[Path, Mark] = {}
    row, counted = 1, 0
    for path, start, key_end, end in found:
        row, counted = row + text.count("\n", counted, start), start
        before = text.rfind("\n", 0, start)
        key = text[start:key_end].split("\n", 1)[0].rstrip()
        value_start = _value_start(text, key_end, end)
        value = text[value_start:end].split("\n", 1)[0].rstrip()
        key_span = Span(name, row, start - before, start - before + len(key))
        value_span = Span(name, row, value_start - before, value_start - before + len(value))
        mark = Mark(key_span, value_span if key_end < end else key_span)
        for length in range(1, len(path)):
            marks.setdefault(path[:length], mark)
        marks[path] = mark
    return marks


def _value_start(text: str, key_end: int, end: int) -> int:
    """Return where the value behind a key starts; the key's end where there is none."""
    rest = text[key_end:end]
    return key_end + len(rest) - len(rest.lstrip().removeprefix("=").lstrip())


def _plain(value: Any, path: Path, marks: dict[Path, Mark], name: str) -> Any:
    """Return `value` with dates as text. Numbers that are not finite and deep nesting are refused."""
    if len(path) > MAX_DEPTH:
        raise Refused(Diagnostic("SG108", f"nested deeper than {MAX_DEPTH} levels", file=name))
    if isinstance(value, dict):
        return {key: _plain(item, (*path, key), marks, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, (*path, index), marks, name) for index, item in enumerate(value)]
    if isinstance(value, (int, float)) and not -LARGEST <= value <= LARGEST:
        mark = marks.get(path)
        message = f"`{value}` is not a finite number" if isinstance(value, float) else "a number is too large"
        raise Refused(Diagnostic("SG111", message, mark and mark.value, file=name))
    return value.isoformat() if isinstance(value, (date, datetime, time)) else value


def _syntax_error(name: str, text: str, message: str) -> Diagnostic:
    place = PLACE.search(message)
    problem = TWICE.sub(r"`\1` is declared twice", PLACE.sub("", message))
    code = "SG104" if "overwrite" in problem or "twice" in problem else "SG103"
    last = text.count("\n") + 1
    line, column = (int(place[1]), int(place[2])) if place and place[1] else (last, 1)
    words = f"not valid TOML: {problem[:1].lower()}{problem[1:]}"
    return Diagnostic(code, words, Span(name, line, column, column + 1))
