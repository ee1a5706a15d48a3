"""Edits at positions of a text: what YAML and JSON share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Refused
from silogen_compiler.load import MISSING, load_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from silogen_compiler.diagnostics import Edit
    from silogen_compiler.load import Path

COLON = re.compile(r"\s*:")
COMMA = re.compile(r"\s*,")
COMMENT = re.compile(r"[ \t]+#[^\n]*")
DASHES = re.compile(r"[ \t]*(?:-[ \t]+)+")
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


def edit_nodes(
    parse: Callable[[str, str], Document], name: str, text: str, edits: Sequence[Edit]
) -> str | None:
    """Make the edits one after the other. A scalar that moves takes its spelling and its comment along."""
    moved: dict[str, tuple[str, str]] = {}
    for edit in edits:
        document = parse(name, text)
        place = document.find(edit.path)
        if place is None:
            new = _add(document, edit, moved)
        elif edit.key is None and edit.value is ...:
            _note(document, place.entry, moved)
            new = _remove(document, place)
        else:
            new = _replace(document, place, edit)
        if new is None:
            return None
        text = new
    return text


def _note(document: Document, entry: Entry, moved: dict[str, tuple[str, str]]) -> None:
    """Remember how a scalar is spelled, and the comment behind it."""
    node = entry.value
    spelled = document.text[node.start : node.end]
    if node.kind == "scalar" and spelled and "\n" not in spelled:
        comment = COMMENT.match(document.text, node.end)
        value = load_value(document.name, spelled).data
        moved[repr(value)] = (spelled, comment[0].rstrip() if comment else "")


def _replace(document: Document, place: Place, edit: Edit) -> str | None:
    """Write another value, and another name for the key."""
    entry, node = place.entry, place.entry.value
    if node.kind in ("mapping", "sequence") and not node.flow and edit.value is not ...:
        return None
    if edit.key is not None and document.below(place.parent, edit.key, None):
        return None
    text = document.text
    if edit.value is not ...:
        start = node.begin if node.kind == "alias" else node.start
        space = " " if start == node.end and not text[:start].endswith((" ", "\t")) else ""
        text = document.cut(start, node.end, space + document.write(edit.value, node))
    if edit.key is not None and entry.key:
        text = text[: entry.key.start] + document.write(edit.key, entry.key) + text[entry.key.end :]
    return text


def _add(document: Document, edit: Edit, moved: dict[str, tuple[str, str]]) -> str | None:
    """Add the entry at a path that is not there, with the sections that it needs."""
    if edit.key is not None or edit.value is ...:
        return None
    spelled, comment = moved.get(repr(edit.value), (document.write(edit.value), ""))
    depth, node, place = 0, document.root, None
    while (below := document.find(edit.path[: depth + 1])) is not None:
        depth, place, node = depth + 1, below, below.entry.value.resolved
    keys = edit.path[depth:]
    if not all(isinstance(key, str) for key in keys):
        return None
    names = [document.write(key) for key in keys]
    if node.kind == "mapping" and not node.flow:
        return _add_block(document, node, names, spelled + comment)
    if node.kind == "scalar" and place and load_value(document.name, node.text).data is None:
        opened = "{" + _flow(names, spelled) + "}"
        space = " " if node.start == node.end else ""
        return document.cut(node.start, node.end, space + opened)
    return _add_flow(document, node, _flow(names, spelled)) if node.kind == "mapping" else None


def _flow(names: list[str], spelled: str) -> str:
    return ": {".join(names) + f": {spelled}" + "}" * (len(names) - 1)


def _add_block(document: Document, node: Node, names: list[str], spelled: str) -> str | None:
    """Add lines behind the last entry, indented as the others."""
    indent = " " * len(document.before(node.entries[0].begin))
    end = document.line_end(node.entries[-1].end)
    if end is None:
        return None
    lines = [f"{indent}{'  ' * depth}{name}:" for depth, name in enumerate(names)]
    lines[-1] += f" {spelled}"
    start = "" if document.text[:end].endswith("\n") else document.newline
    return document.cut(end, end, start + "".join(line + document.newline for line in lines))


def _add_flow(document: Document, node: Node, written: str) -> str:
    """Add an entry behind the last one, on a line of its own where that has one."""
    if not node.entries:
        return document.cut(node.start + 1, node.end - 1, written)
    last = node.entries[-1]
    before = document.before(last.begin)
    if before.strip():
        return document.cut(last.end, last.end, f", {written}")
    comment = COMMENT.match(document.text, last.end)
    end = comment.end() if comment else last.end
    return document.cut(last.end, end, f",{comment[0] if comment else ''}{document.newline}{before}{written}")


def _remove(document: Document, place: Place) -> str | None:
    """Remove an entry with its comment behind it; an empty mapping or list stays where it was the last."""
    parent = place.parent
    if parent.flow:
        return _remove_flow(document, parent, place.at)
    if len(parent.entries) == 1:
        return _remove_last(document, place)
    entry = place.entry
    end, start = document.line_end(entry.end), document.line_start(entry.begin)
    if end is None:
        return None
    before = document.before(entry.begin)
    if not before.strip() or (parent.kind == "sequence" and before.strip() == "-"):
        return document.cut(start, end)
    return _remove_behind_dash(document, parent, end) if DASHES.fullmatch(before) else None


def _remove_behind_dash(document: Document, parent: Node, end: int) -> str:
    """Remove the first entry of a mapping, which shares its line with a list's dash."""
    first, second = parent.entries[:2]
    if not document.text[end : document.line_start(second.begin)].strip():
        return document.cut(first.begin, second.begin)
    return document.cut(len(document.text[: first.begin].rstrip()), end, document.newline)


def _remove_last(document: Document, place: Place) -> str | None:
    """Remove the only entry of a mapping or list in block style: write it as empty."""
    parent, entry = place.parent, place.entry
    empty = "{}" if parent.kind == "mapping" else "[]"
    end = document.line_end(entry.end)
    before = document.before(entry.begin)
    if end is None:
        return None
    if parent.kind == "mapping" and DASHES.fullmatch(before):
        return document.cut(entry.begin, entry.end, empty)
    start = document.line_start(entry.begin)
    if before.strip(" -"):
        return None
    if parent is document.root:
        return document.cut(start, end, empty + document.newline)
    at = _behind_owner(document, parent, place.owner)
    if at is None:
        return None
    return document.text[:at] + f" {empty}" + document.text[at:start] + document.text[end:]


def _behind_owner(document: Document, node: Node, owner: Entry | None) -> int | None:
    """Return where a value in block style would start on the line of its key: behind its anchor and tag."""
    if node.begin < node.start:
        properties = document.text[node.begin : node.start].split("#")[0].rstrip()
        return node.begin + len(properties)
    colon = COLON.match(document.text, owner.key.end) if owner and owner.key else None
    return colon.end() if colon else None


def _remove_flow(document: Document, parent: Node, index: int) -> str:
    """Remove an entry from between brackets, with one of the commas beside it."""
    text, entry = document.text, parent.entries[index]
    last = index == len(parent.entries) - 1
    comma = COMMA.match(text, entry.end)
    end = comma.end() if comma else entry.end
    if len(parent.entries) == 1 and "#" not in text[parent.start + 1 : entry.begin] + text[end : parent.end]:
        return document.cut(parent.start + 1, parent.end - 1)
    line_end = document.line_end(end)
    is_alone = not document.before(entry.begin).strip() and line_end is not None
    if not last and "#" not in text[end : parent.entries[index + 1].begin]:
        return document.cut(entry.begin, parent.entries[index + 1].begin)
    start = parent.entries[index - 1].end if last and index else entry.begin
    if start < entry.begin and "#" not in text[start : entry.begin]:
        comment = COMMENT.match(text, entry.end) if is_alone else None
        return document.cut(start, comment.end() if comment else entry.end)
    if is_alone and line_end is not None:
        return document.cut(document.line_start(entry.begin), line_end)
    return document.cut(entry.begin, end)
