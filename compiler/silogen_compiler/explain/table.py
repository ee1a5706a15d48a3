"""`silogen compile --explain`: a table of every value of a config, its argument and its origin."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.emit import as_yaml
from silogen_compiler.explain.config import Row, arguments_without_key, rows
from silogen_compiler.load import dotted
from silogen_compiler.values import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from silogen_compiler.pipeline import Compiled

HEADER = ("key", "value", "lands in", "origin")
VALUE, ARGUMENT = 28, 40  # columns that a value and its arguments take where lines may be long
BOLD, DIM, END = "\033[1m", "\033[2m", "\033[0m"


class Line(NamedTuple):
    """One line of the table; a default stands back."""

    key: str
    value: str
    argument: str
    origin: str
    is_default: bool = False


def explain_table(compiled: Compiled, *, width: int = 0, color: bool = False) -> str:
    """Return the table of a config that compiles, a part for each section.

    Lines are cut after `width` columns, and arguments that are called as their key show only their section;
    a width of 0 shows all.
    """
    found = rows(compiled)
    parts = [
        (section, [_line(row, is_short=width > 0) for row in part])
        for section, part in groupby(found, key=lambda row: str(row.path[0]) if row.path[1:] else "")
    ]
    others = [
        Line(dotted(at), as_yaml(value), "", origin.text, is_default=True)
        for at, value, origin in arguments_without_key(compiled)
    ]
    parts = [("", [Line(*HEADER)]), *parts, ("arguments that no key sets", others)]
    widths = _widths((line for _, lines in parts for line in lines), width)
    texts = [_part(name, lines, widths, width, color=color) for name, lines in parts if lines]
    return "\n".join(texts)


def _line(row: Row, *, is_short: bool) -> Line:
    key = dotted(row.path[1:]) or dotted(row.path)
    rules = {argument.rule for argument in row.arguments if argument.rule}
    places = [argument.place for argument in row.arguments]
    short = [
        place[:-1] if is_short and place[1:] and place[-1] == row.path[-1] else place for place in places
    ]
    argument = f"by the rule {', '.join(sorted(rules))}" if rules else ", ".join(map(dotted, short))
    return Line(key, as_yaml(row.value), argument or "-", row.origin.text, row.origin.text == DEFAULT.text)


def _widths(lines: Iterable[Line], width: int) -> tuple[int, ...]:
    """Return the widths of the columns before the last, which leave it a quarter of a terminal."""
    longest = [max(sizes) for sizes in zip(*(map(len, line[:3]) for line in lines), strict=True)]
    most = (width // 3, width // 6, width // 5) if width else (longest[0], VALUE, ARGUMENT)
    return tuple(map(min, longest, most))


def _part(name: str, lines: list[Line], widths: tuple[int, ...], width: int, *, color: bool) -> str:
    heading = [f"{BOLD}{name}{END}" if color else name] if name else []
    texts = [(_row(line, widths, width), line.is_default) for line in lines]
    return "\n".join([*heading, *(f"{DIM}{text}{END}" if color and dim else text for text, dim in texts), ""])


def _row(line: Line, widths: tuple[int, ...], width: int) -> str:
    texts = [cut(text, size) for text, size in zip(line[:3], widths, strict=True)]
    texts = texts if width else [line.key, texts[1], line.argument]
    cells = [text.ljust(size) for text, size in zip(texts, widths, strict=True)]
    text = "  ".join(["", *cells, line.origin]).rstrip()
    return cut(text, width) if width else text


def cut(text: str, width: int) -> str:
    """Return text in at most `width` columns, with a mark where some of it is missing."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
