"""Stage 7: the resolved config as text: YAML with the origin behind each value, or JSON."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin

# Text that every YAML reader takes as text without quotes.
PLAIN = re.compile(r"(?![nNyY]\Z)(?:\.{0,2}/)?[A-Za-z_](?:[\w./@+-]|:(?=\w)| (?=[\w./@+-]))*\Z", re.ASCII)
EXACT = {str, bool, int, type(None)}
NEWLINE = "\n"
WORDS = {"null", "true", "false", "yes", "no", "on", "off"}


def add_digest(resolved: dict[str, Any]) -> dict[str, Any]:
    """Return the resolved config with the SHA-256 of its canonical JSON as `digest`."""
    return {**resolved, "digest": digest(resolved)}


def digest(resolved: dict[str, Any]) -> str:
    """Return the digest over everything in `resolved` but its own `digest`; 1 and 1.0 are the same."""
    content = _whole({key: value for key, value in resolved.items() if key != "digest"})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _whole(node: Any) -> Any:
    """Return `node` with its whole numbers as integers, as canonical JSON (RFC 8785) writes them."""
    if isinstance(node, dict):
        return {key: value if type(value) in EXACT else _whole(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_whole(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def emit_json(resolved: dict[str, Any], origins: dict[Path, Origin]) -> str:
    del origins  # JSON has no comments
    return json.dumps(resolved, indent=2, ensure_ascii=False) + "\n"


def emit_yaml(resolved: dict[str, Any], origins: dict[Path, Origin]) -> str:
    lines = list(_yaml_lines(resolved, (), 0, origins))
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[dict[str, Any], dict[Path, Origin]], str]] = {
    "yaml": emit_yaml,
    "json": emit_json,
}


def _yaml_lines(node: dict[str, Any], path: Path, depth: int, origins: dict[Path, Origin]) -> Iterator[str]:
    """Yield the lines of a mapping. A value with an origin stands on one line, what has none is opened."""
    indent = "  " * depth
    for key, value in node.items():
        here = (*path, key)
        start = f"{indent}{as_yaml(key)}:"
        if here not in origins and value and isinstance(value, dict):
            yield start
            yield from _yaml_lines(value, here, depth + 1, origins)
        elif here not in origins and value and isinstance(value, list):
            yield start
            for index, item in enumerate(value):
                first = tuple(item)[:1] if isinstance(item, dict) else ()
                yield f"{indent}  - {as_yaml(item)}{_comment(origins, (*here, index, *first))}"
        elif isinstance(value, str) and _fits_block(value):
            yield f"{start} |{'' if value[-1] == NEWLINE else '-'}{_comment(origins, here)}"
            yield from (f"{indent}  {line}" for line in value.removesuffix(NEWLINE).split(NEWLINE))
        else:
            yield f"{start} {as_yaml(value)}{_comment(origins, here)}"


def _fits_block(text: str) -> bool:
    """Tell whether a literal block holds the text as it is: several printable lines, none blank at an end."""
    lines = text.removesuffix(NEWLINE).split(NEWLINE)
    blank = lines[0][:1] in ("", " ") or not lines[-1]
    return len(lines) > 1 and not blank and all(x.isprintable() and x == x.rstrip() for x in lines)


def _comment(origins: dict[Path, Origin], path: Path) -> str:
    return f"  # {origins[path].text}" if path in origins else ""


def as_yaml(value: Any) -> str:
    """Return a value on one line, in a form that YAML 1.1 and 1.2 readers take alike."""
    if isinstance(value, str):
        plain = PLAIN.match(value) and value.lower() not in WORDS
        return value if plain else _quote(value)
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        point = "" if "." in mantissa or not e else ".0"
        return f"{mantissa}{point}{e}{exponent}"
    if isinstance(value, list):
        return f"[{', '.join(as_yaml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{as_yaml(key)}: {as_yaml(item)}' for key, item in value.items())}}}"
    return json.dumps(value)


def _quote(text: str) -> str:
    """Return text in double quotes, with what is not printable escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in quoted)
