"""Layers from the command line: `--set KEY=VALUE` and `--set-file KEY=FILE`, typed by the schema."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from silogen_compiler.diagnostics import Diagnostic, Refused, Span
from silogen_compiler.layers.merge import Items, merge_two
from silogen_compiler.load import Layer, Mark, Path, Tree, describe, dotted, load_value, read_source
from silogen_compiler.schema import find

if TYPE_CHECKING:
    from collections.abc import Sequence

SET, SET_FILE = "--set", "--set-file"

# One part of a key: a name, a name in quotes that may hold dots, or the index of an item.
PART = re.compile(r'(?:(?:^|\.)(?:"([^"]*)"|([^.\[\]="]+))|\[(\d+)\])')


def apply_settings(
    layer: Layer, settings: Sequence[str], files: Sequence[str], sources: dict[str, str]
) -> Layer:
    """Return the layer with the settings, in order, those from files first.

    A setting reads as YAML (`1e-4`, `null`, `[a, b]`), or as text where the schema wants text. That of
    a file is what the file holds. What is read is noted in `sources`. Raises Refused where a setting cannot
    be applied.
    """
    for flag, texts in ((SET_FILE, files), (SET, settings)):
        if texts:
            sources[flag] = "\n".join(text.replace("\n", " ") for text in texts)  # one line each
        for number, text in enumerate(texts):
            layer = _apply(layer, _Setting(flag, number + 1, text), sources)
    return layer


class _Setting:
    """One KEY=VALUE of the command line; all of one flag are shown as the lines of one source."""

    def __init__(self, flag: str, line: int, text: str) -> None:
        self.flag = flag
        self.line = line
        self.key, _, self.value = text.partition("=")
        self.text = text

    def span(self, start: int, end: int) -> Span:
        return Span(self.flag, self.line, start + 1, end + 1)

    @property
    def mark(self) -> Mark:
        start = len(self.key)
        return Mark(self.span(0, start), self.span(start + 1, len(self.text)))

    def refuse(self, message: str, label: str = "", span: Span | None = None) -> NoReturn:
        raise Refused(Diagnostic("SG116", message, span or self.span(0, max(len(self.key), 1)), label))


def _apply(layer: Layer, setting: _Setting, sources: dict[str, str]) -> Layer:
    path = _path(setting)
    _check_way(layer, path, setting)
    value = _value(layer, path, setting, sources)
    data: Any = value.data
    for part in reversed(path):
        data = Items({part: data}) if isinstance(part, int) else {part: data}
    marks = {path[:length]: setting.mark for length in range(1, len(path) + 1)}
    marks |= {path + at: mark for at, mark in value.marks.items()}
    return merge_two(layer, Layer(setting.flag, sources, data, marks))


def _path(setting: _Setting) -> Path:
    """Return the path that a dotted key names: `a.b[0]."q.proj"`."""
    if "=" not in setting.text:
        setting.refuse(f"`{setting.text}` is no setting", "write KEY=VALUE")
    path: Path = ()
    at = 0
    while match := PART.match(setting.key, at):
        quoted, name, index = match.groups()
        path = (*path, int(index) if index is not None else name if quoted is None else quoted)
        at = match.end()
    if at < len(setting.key) or not path or isinstance(path[0], int):
        setting.refuse(f"`{setting.key}` is no key", "write keys with dots between, such as run_conf.model")
    return path


def _check_way(layer: Layer, path: Path, setting: _Setting) -> None:
    """Refuse a path that leads through a value that is no mapping or list."""
    node: Any = layer.data
    for at, part in enumerate(path):
        if isinstance(part, int):
            if not isinstance(node, list) or part >= len(node):
                has = (
                    f"has {len(node)} item{'' if len(node) == 1 else 's'}"
                    if isinstance(node, list)
                    else f"is {describe(node)}"
                )
                setting.refuse(f"`{dotted(path[:at])}` {has}, so there is no item {part} to set")
            node = node[part]
        elif node is None or (isinstance(node, dict) and part not in node):
            rest = next((p for p in path[at + 1 :] if isinstance(p, int)), None)
            if rest is not None:
                setting.refuse(f"`{dotted(path[: at + 1])}` is not there, so it has no item {rest} to set")
            return
        elif not isinstance(node, dict):
            setting.refuse(f"`{dotted(path[:at])}` is {describe(node)}, so it has no key `{part}`")
        else:
            node = node[part]


def _value(layer: Layer, path: Path, setting: _Setting, sources: dict[str, str]) -> Tree:
    """Return what a setting sets."""
    if setting.flag == SET_FILE:
        name = setting.value
        sources[name] = read_source(name)
        return _typed(layer, path, sources[name].removesuffix("\n"), name)
    try:
        tree = _typed(layer, path, setting.value, "")
    except Refused as refused:
        raise Refused(*(d._replace(span=setting.mark.value) for d in refused.diagnostics)) from None
    return Tree(tree.data, dict.fromkeys(tree.marks, setting.mark))


def _typed(layer: Layer, path: Path, text: str, name: str) -> Tree:
    """Return `text` as a value: as the schema wants it where it is one of both text and another value."""
    sections: Any = {}
    for part in reversed(path):  # so that a section that is not there yet is found
        sections = {part: sections}
    node = find(path, {**sections, "method": "sft", **layer.data})
    try:
        tree = load_value(name, text)
    except Refused:
        if not _takes(node, "string"):
            raise
        return Tree(text, {})
    if isinstance(tree.data, str) and text[:1] not in "\"'|>":
        return Tree(text, {})
    wants_text = _takes(node, "string") and not _takes(node, *_kinds(tree.data))
    return Tree(text, {}) if wants_text and not isinstance(tree.data, str) else tree


def _takes(node: dict[str, Any], *kinds: str) -> bool:
    """Tell whether the schema of a value names one of the types."""
    types = node.get("type", [])
    return not {types}.isdisjoint(kinds) if isinstance(types, str) else not set(types).isdisjoint(kinds)


def _kinds(value: Any) -> tuple[str, ...]:
    """Return the JSON types that a value is of."""
    if isinstance(value, bool):
        return ("boolean",)
    names = {int: ("integer", "number"), float: ("number", "integer"), str: ("string",), dict: ("object",)}
    return names.get(type(value), ("array",) if isinstance(value, list) else ("null",))
