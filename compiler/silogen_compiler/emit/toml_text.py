"""The resolved config as TOML, with the origin behind each value.

TOML has no null. A key that holds null is left out, and its path is listed as `nulls` in the table `toml` at
the end; in a list, "" keeps its place. The reader in load/toml_text.py puts the nulls back.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from silogen_compiler.emit.yaml_text import comment, fits_block, quote
from silogen_compiler.load.toml_text import NULLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin

BARE = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)


def emit(resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str] = ()) -> str:
    del inputs
    lines = [*_table(resolved, (), origins)]
    nulls = [f"  {_inline(list(path))},{comment(origins, path)}" for path in _nulls(resolved, ())]
    if nulls:
        table, key = NULLS
        lines += ["", f"[{table}]", "# TOML has no null: these keys hold it.", f"{key} = [", *nulls, "]"]
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(node: dict[str, Any], path: Path, origins: dict[Path, Origin]) -> Iterator[str]:
    """Yield the lines of a table: its values, then its tables. What has an origin stands on one line."""
    tables = {key for key, value in node.items() if _is_opened(value, (*path, key), origins)}
    values = {key: value for key, value in node.items() if key not in tables}
    if path and values:
        yield from ("", f"[{'.'.join(_key(part) for part in path)}]")
    for key, value in values.items():
        if value is not None:
            yield from _value(key, value, (*path, key), origins)
    for key in [key for key in node if key in tables]:
        yield from _table(node[key], (*path, key), origins)


def _is_opened(value: Any, path: Path, origins: dict[Path, Origin]) -> bool:
    return bool(value) and isinstance(value, dict) and path not in origins


def _value(key: str, value: Any, path: Path, origins: dict[Path, Origin]) -> Iterator[str]:
    start, origin = f"{_key(key)} =", comment(origins, path)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value) and path not in origins:
        yield f"{start} ["
        for index, item in enumerate(value):
            first = tuple(item)[:1] if isinstance(item, dict) else ()
            yield f"  {_inline(item)},{comment(origins, (*path, index, *first))}"
        yield "]"
    elif isinstance(value, str) and fits_block(value) and "'''" not in value and value[-1] != "'":
        yield f"{start} '''"
        yield f"{value}'''{origin}"
    else:
        yield f"{start} {_inline(value)}{origin}"


def _inline(value: Any) -> str:
    """Return a value on one line. A null is left out of a table, and an empty text in a list."""
    if value is None or isinstance(value, str):
        return quote(value or "")
    if isinstance(value, list):
        return f"[{', '.join(_inline(item) for item in value)}]"
    if isinstance(value, dict):
        pairs = [f"{_key(key)} = {_inline(item)}" for key, item in value.items() if item is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return json.dumps(value)


def _key(key: Any) -> str:
    return key if BARE.match(key) else quote(key)


def _nulls(node: Any, path: Path) -> Iterator[Path]:
    """Yield the paths of all nulls."""
    if node is None:
        yield path
    elif isinstance(node, (dict, list)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _nulls(value, (*path, key))
