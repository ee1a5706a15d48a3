"""What surrounds findings in text: the margin with line numbers, colours, and the width to keep to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.render.plain import clean, columns, words

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a line may hold whole or not at all: what stands in backticks, a command to copy, or a word.
UNBROKEN = re.compile(r"[^\s`]*`[^`]*`\S*|\(silogen [^)]*\)\S*|\S+")

COLORS = {"error": "1;31", "warning": "1;33", "note": "1;34", "frame": "1;34", "bold": "1"}


class Frame(NamedTuple):
    """How one finding is laid out: columns of the margin for line numbers, columns of text, and colours."""

    margin: int
    width: int
    color: bool

    def paint(self, text: str, kind: str) -> str:
        return f"\033[{COLORS[kind]}m{text}\033[0m" if self.color else text

    def row(self, number: int | None, text: str = "") -> str:
        """Return a line behind the bar, with a number before it or without one."""
        shown = " " * self.margin if number is None else self.paint(str(number).rjust(self.margin), "frame")
        return f"{shown} {self.paint('|', 'frame')} {text}".rstrip()

    def gap(self) -> str:
        return self.paint("...", "frame")

    def place(self, arrow: str, where: object) -> str:
        """Return the line that names a place: `--> run.yaml:3:1`."""
        return f"{' ' * self.margin}{self.paint(arrow, 'frame')} {clean(str(where))}"

    def note(self, text: str, heading: str = "") -> Iterator[str]:
        """Yield a note below the source, wrapped to the width under its first word."""
        first = f"{' ' * self.margin} {self.paint('=', 'frame')} {heading}"
        indent = self.margin + len(" = ") + len(heading)
        for number, line in enumerate(wrap(words(text), self.width - indent)):
            yield f"{' ' * indent if number else first}{line}"


def wrap(text: str, width: int) -> Iterator[str]:
    """Yield text in lines of at most `width` columns; a word or command is never cut."""
    line = ""
    for word in UNBROKEN.findall(text):
        if line and columns(line) + 1 + columns(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
