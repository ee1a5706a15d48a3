"""What differs between two resolved configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.emit import as_yaml
from silogen_compiler.load import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from silogen_compiler.load import Path

ABSENT = ...
CHANGED, ADDED, REMOVED = "changed", "added", "removed"


class Change(NamedTuple):
    """A value that differs; `ABSENT` stands for the side that has none."""

    path: Path
    before: Any
    after: Any

    @property
    def kind(self) -> str:
        return ADDED if self.before is ABSENT else REMOVED if self.after is ABSENT else CHANGED


class Difference(NamedTuple):
    """What differs, section by section, and how many values are equal."""

    changes: list[Change]
    equal: int


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    """Compare two resolved configs value by value; their digests say nothing more."""
    left, right = (dict(_leaves(side)) for side in (before, after))
    left, right = _without_empty_sections(left, right), _without_empty_sections(right, left)
    sections = {section: number for number, section in enumerate({**before, **after})}
    paths = sorted({**left, **right}, key=lambda path: sections[str(path[0])])
    pairs = [Change(path, left.get(path, ABSENT), right.get(path, ABSENT)) for path in paths]
    changes = [pair for pair in pairs if pair.kind != CHANGED or as_yaml(pair.before) != as_yaml(pair.after)]
    return Difference(changes, len(pairs) - len(changes))


def origin_text(origins: Mapping[Path, str], path: Path) -> str:
    """Return the origin of a value, of what holds it, or of its first part; empty where none has one."""
    above = (origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in origins)
    below = (text for at, text in origins.items() if at[: len(path)] == path)
    return next(above, "") or next(below, "")


def named(change: Change, limit: int) -> tuple[str, str, str]:
    """Return the key and both values as text, cut to `limit` characters around where they begin to differ."""
    before, after = ("" if side is ABSENT else as_yaml(side) for side in (change.before, change.after))
    same = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(same - limit // 2, 0) if max(len(before), len(after)) > limit else 0
    return dotted(change.path), _window(before, start, limit), _window(after, start, limit)


def _window(text: str, start: int, limit: int) -> str:
    end = start + limit
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value with its path: what is no mapping with keys, and no list of mappings."""
    if isinstance(node, dict) and (node or not path):
        for key, value in node.items():
            if (*path, key) != ("digest",):
                yield from _leaves(value, (*path, key))
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for index, item in enumerate(node):
            yield from _leaves(item, (*path, index))
    else:
        yield path, node


def _without_empty_sections(side: dict[Path, Any], other: dict[Path, Any]) -> dict[Path, Any]:
    """Return the values without a null or `{}` where the other side has a whole section."""
    sections = {path[:end] for path in other for end in range(1, len(path))}
    return {path: value for path, value in side.items() if value not in (None, {}) or path not in sections}
