"""Edits of YAML at the positions of its keys and values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, Event, MappingStartEvent, ScalarEvent

from silogen_compiler.edit.document import Document, Entry, Node
from silogen_compiler.edit.nodes import edit_nodes
from silogen_compiler.emit import as_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.diagnostics import Edit

PARSER = getattr(yaml, "CLoader", yaml.Loader)  # without libyaml: slower, same events

# An anchor and a tag, and what stands between them and the value: space and comments.
PROPERTIES = re.compile(r"(?:[&!]\S*(?:\s|#[^\n]*(?=\n))*)*")


def edit(name: str, text: str, edits: Sequence[Edit]) -> str | None:
    """Make the edits, in order; None where one cannot be made."""
    try:
        return edit_nodes(parse, name, text, edits)
    except yaml.YAMLError:  # what the first of several edits left cannot be read
        return None


def parse(name: str, text: str) -> Document:
    """Return where everything stands."""
    builder = _Builder(text)
    builder.next()  # the stream's start
    builder.next()  # the document's start
    return Document(name, text, builder.node(builder.next()), _write)


def _write(value: Any, like: Node | None) -> str:
    """Return a value as text, in the quotes that were there."""
    if isinstance(value, str) and value.isprintable() and like and like.style in ("'", '"'):
        doubled = value.replace("'", "''")
        return f"'{doubled}'" if like.style == "'" else json.dumps(value, ensure_ascii=False)
    return as_yaml(value)


class _Builder:
    """Builds nodes from the parser's events."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.next = PARSER(text).get_event
        self.anchors: dict[str, Node] = {}

    def node(self, event: Event) -> Node:
        begin, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, AliasEvent):
            return Node("alias", begin, begin, end, target=self.anchors.get(event.anchor))
        has_properties = event.anchor is not None or event.tag is not None
        properties = PROPERTIES.match(self.text, begin) if has_properties else None
        start = properties.end() if properties else begin
        if isinstance(event, ScalarEvent):
            node = self.scalar(event, begin, min(start, end), end)
        else:
            node = self.collection(event, begin, start)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def scalar(self, event: ScalarEvent, begin: int, start: int, end: int) -> Node:
        """Return a scalar; a block ends with its last line that is not blank."""
        is_block = event.style in ("|", ">")
        end = len(self.text[:end].rstrip()) if is_block else end
        return Node("scalar", begin, start, end, event.value, event.style or "")

    def collection(self, event: Event, begin: int, start: int) -> Node:
        """Return a mapping or list; one in block style ends with its last value."""
        is_mapping, entries = isinstance(event, MappingStartEvent), []
        while not isinstance(item := self.next(), CollectionEndEvent):
            node = self.node(item)
            entries.append(Entry(node, self.node(self.next())) if is_mapping else Entry(None, node))
        end = item.end_mark.index if event.flow_style else entries[-1].end
        kind = "mapping" if is_mapping else "sequence"
        return Node(kind, begin, start, end, flow=bool(event.flow_style), entries=entries)
