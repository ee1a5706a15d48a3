"""Edits of TOML with tomlkit, which keeps what it does not change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, Item, Key, SingleKey, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomlkit.container import Container

    from silogen_compiler.diagnostics import Edit


class _Entry(NamedTuple):
    container: Container
    key: Key
    item: Item


def edit(name: str, text: str, edits: Sequence[Edit]) -> str | None:
    """Make the edits, in order; None where one cannot be made."""
    del name  # a TOML text needs none
    try:
        document = tomlkit.parse(text)
        moved: dict[str, Any] = {}
        if document.as_string() == text and all(_edit(document, edit, moved) for edit in edits):
            new = document.as_string()
            return re.sub(r"(?<!\r)\n", "\r\n", new) if "\n" not in text.replace("\r\n", "") else new
    except TOMLKitError:
        pass
    return None


def _edit(document: Container, edit: Edit, moved: dict[str, Any]) -> bool:
    """Make one edit, if that can be done. A value that moves takes its spelling and its comment along."""
    entry = _find(document, edit.path)
    if entry is None:
        return edit.key is None and edit.value is not ... and _add(document, edit, moved)
    if edit.key is None and edit.value is ...:
        moved[repr(entry.item.unwrap())] = entry.item
        entry.container.remove(entry.key)
        return True
    return _replace(document, entry, edit)


def _find(container: Container, path: Sequence[str | int]) -> _Entry | None:
    """Return the entry at a path; a section may stand in several pieces."""
    for key, item in container.body:
        if key is not None and key.key == path[0]:
            if len(path) == 1:
                return _Entry(container, key, item)
            entry = _find_below(item, path[1:])
            if entry:
                return entry
    return None


def _find_below(item: Any, path: Sequence[str | int]) -> _Entry | None:
    if isinstance(item, list):
        index, rest = path[0], path[1:]
        if rest and isinstance(index, int) and index < len(item):
            return _find_below(item[index], rest)
        return None
    return _find(item.value, path) if isinstance(item, AbstractTable) else None


def _add(document: Container, edit: Edit, moved: dict[str, Any]) -> bool:
    """Add an entry, with the sections that it needs."""
    node: Any = document
    for part in edit.path[:-1]:
        if isinstance(part, str) and part not in node:
            node[part] = tomlkit.table()
        node = node[part]
        if not isinstance(node, dict):
            return False
    node[edit.path[-1]] = moved.get(repr(edit.value), edit.value)
    return True


def _replace(document: Container, entry: _Entry, edit: Edit) -> bool:
    """Write another value and another name, with the space around them and the comment behind as they are."""
    old, item = entry.key, entry.item
    is_taken = edit.key is not None and _find(document, (*edit.path[:-1], edit.key)) is not None
    if is_taken or (isinstance(item, Table) and edit.value is not ...):
        return False
    value = item if edit.value is ... else _value(edit.value, str(item))
    name = edit.key or old.key
    new = SingleKey(name, sep=old.sep, original=old.as_string().replace(old.key, name))
    entry.container._replace(old, new if edit.key else old, value)
    return True


def _value(value: Any, spelled: str) -> Any:
    """Return a value as an item: a number as it was spelled in quotes."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            item = tomlkit.value(spelled.replace("_", ""))
        except TOMLKitError:
            return value
        return item if item.unwrap() == value else value
    return value
