"""A text that is edited, and what stands where in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Refused
from silogen_compiler.load import MISSING, load_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.load import Path


REST_OF_LINE = re.compile(r"[ \t]*(?:#[^\n]*|\r)?(?:\n|\Z)")


@dataclass(frozen=True)
class Node:
    """A value or key with its place: text[begin:start] holds its anchor and tag, text[start:end] itself.

    `text` is what a scalar says, `style` the character that starts its quotes or block. A mapping or list in
    brackets is `flow`. An alias has a `target`: the node that its anchor names.
    """

    kind: str
    begin: int
    start: int
    end: int
    text: str = ""
    style: str = ""
    flow: bool = False
    entries: list[Entry] = field(default_factory=list)
    target: Node | None = None

    @property
    def resolved(self) -> Node:
        return self.target or self


class Entry(NamedTuple):
    """A key with its value, or a list's item, which has no key."""

    key: Node | None
    value: Node

    @property
    def begin(self) -> int:
        return (self.key or self.value).begin

    @property
    def end(self) -> int:
        return max(self.value.end, self.key.end if self.key else 0)


class Place(NamedTuple):
    """Where an entry stands, and the entry whose value its mapping or list is (None at the top)."""

    parent: Node
    at: int
    owner: Entry | None

    @property
    def entry(self) -> Entry:
        return self.parent.entries[self.at]


@dataclass(frozen=True)
class Document:
    """A text and what stands where in it.

    `spell` returns a value as text, in the manner of the node whose place it takes.
    """

    name: str
    text: str
    root: Node
    spell: Callable[[Any, Node | None], str]

    def write(self, value: Any, like: Node | None = None) -> str:
        """Return a value as text: a number as it stands in quotes, such as `1e-5`."""
        spelled = like.text.replace("_", "").strip() if like else ""
        if type(value) in (int, float) and repr(_read(self.name, spelled)) == repr(value):
            return spelled
        return self.spell(value, like)

    def find(self, path: Path) -> Place | None:
        """Return the place of the entry at `path`; an alias leads to where its anchor stands."""
        place, node = None, self.root
        for key in path:
            place = self.below(node, key, place.entry if place else None)
            if place is None:
                return None
            node = place.entry.value.resolved
        return place

    def below(self, node: Node, key: str | int, owner: Entry | None) -> Place | None:
        """Return the place of an entry of a mapping or list, or of a mapping that it merges."""
        if isinstance(key, int):
            is_there = node.kind == "sequence" and key < len(node.entries)
            return Place(node, key, owner) if is_there else None
        keys = [entry.key.text if entry.key else "" for entry in node.entries]
        if node.kind == "mapping" and key in keys:
            return Place(node, keys.index(key), owner)
        places = (self.below(base, key, None) for base in self.bases(node))
        return next((place for place in places if place), None)

    @staticmethod
    def bases(node: Node) -> list[Node]:
        """Return the mappings that a mapping merges by `<<`."""
        merges = [e.value for e in node.entries if e.key and e.key.text == "<<" and not e.key.style]
        found = [value.resolved for value in merges]
        lists = [base.entries if base.kind == "sequence" else [Entry(None, base)] for base in found]
        return [entry.value.resolved for entries in lists for entry in entries]

    def line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def before(self, at: int) -> str:
        """Return what stands before a place on its line."""
        return self.text[self.line_start(at) : at]

    def line_end(self, at: int) -> int | None:
        """Return where the line of a place ends, its line break included, if only a comment follows there."""
        rest = REST_OF_LINE.match(self.text, at)
        return rest.end() if rest else None

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def cut(self, start: int, end: int, new: str = "") -> str:
        return self.text[:start] + new + self.text[end:]


def _read(name: str, text: str) -> Any:
    """Return the value that a text is, or MISSING."""
    try:
        return load_value(name, text).data
    except Refused:
        return MISSING
