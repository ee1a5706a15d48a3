"""Edits at positions of a text: what YAML and JSON share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from silogen_compiler.load import load_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from silogen_compiler.diagnostics import Edit
    from silogen_compiler.edit.document import Document, Entry, Node, Place

COLON = re.compile(r"\s*:")
COMMA = re.compile(r"\s*,")
COMMENT = re.compile(r"[ \t]+#[^\n]*")
DASHES = re.compile(r"[ \t]*(?:-[ \t]+)+")


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
