"""Edits of JSON at the positions of its keys and values."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from silogen_compiler.edit.document import Document, Entry, Node
from silogen_compiler.edit.nodes import edit_nodes
from silogen_compiler.load.json_text import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.diagnostics import Edit, Span
    from silogen_compiler.load import Path, Tree

KINDS: dict[type, str] = {dict: "mapping", list: "sequence"}


def edit(name: str, text: str, edits: Sequence[Edit]) -> str | None:
    """Make the edits, in order; None where one cannot be made."""
    return edit_nodes(parse, name, text, edits)


def parse(name: str, text: str) -> Document:
    """Return where everything stands."""
    builder = _Builder(text, read(name, text))
    start = len(text) - len(text.lstrip(" \t\r\n"))
    return Document(name, text, builder.node((), builder.tree.data, start), _write)


def _write(value: Any, like: Node | None) -> str:
    del like
    return json.dumps(value, ensure_ascii=False)


class _Builder:
    """Builds nodes from the reader's marks, which say where values start; the library says where they end."""

    def __init__(self, text: str, tree: Tree) -> None:
        self.text = text
        self.tree = tree
        self.lines = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        self.end = json.JSONDecoder().raw_decode

    def index(self, span: Span) -> int:
        return self.lines[span.line - 1] + span.column - 1

    def node(self, path: Path, data: Any, start: int) -> Node:
        kind = KINDS.get(type(data), "scalar")
        end = self.end(self.text, start)[1]
        said = data if isinstance(data, str) else self.text[start:end]
        items = data.items() if isinstance(data, dict) else enumerate(data) if kind == "sequence" else ()
        entries = [self.entry((*path, key), item) for key, item in items]
        flow = kind != "scalar"
        return Node(kind, start, start, end, "" if flow else said, flow=flow, entries=entries)

    def entry(self, path: Path, data: Any) -> Entry:
        mark = self.tree.marks[path]
        value = self.node(path, data, self.index(mark.value))
        if mark.key is None:
            return Entry(None, value)
        start = self.index(mark.key)
        return Entry(Node("scalar", start, start, self.end(self.text, start)[1], str(path[-1])), value)
