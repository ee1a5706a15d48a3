"""The resolved config as YAML, with the origin behind each value."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin

# Text that every YAML reader takes as text without quotes.
PLAIN = re.compile(r"(?![nNyY]\Z)(?:\.{0,2}/)?[A-Za-z_](?:[\w./@+-]|:(?=\w)| (?=[\w./@+-]))*\Z", re.ASCII)
NEWLINE = "\n"
WORDS = {"null", "true", "false", "yes", "no", "on", "off"}


def emit(resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str] = ()) -> str:
    del inputs
    lines = list(_yaml_lines(resolved, (), 0, origins))
    return "\n".join(lines) + "\n"


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
                yield f"{indent}  - {as_yaml(item)}{comment(origins, (*here, index, *first))}"
        elif isinstance(value, str) and fits_block(value):
            yield f"{start} |{'' if value[-1] == NEWLINE else '-'}{comment(origins, here)}"
            yield from (f"{indent}  {line}" for line in value.removesuffix(NEWLINE).split(NEWLINE))
        else:
            yield f"{start} {as_yaml(value)}{comment(origins, here)}"


def fits_block(text: str) -> bool:
    """Tell whether a literal block holds the text as it is: several printable lines, none blank at an end."""
    lines = text.removesuffix(NEWLINE).split(NEWLINE)
    blank = lines[0][:1] in ("", " ") or not lines[-1]
    return len(lines) > 1 and not blank and all(x.isprintable() and x == x.rstrip() for x in lines)


def comment(origins: dict[Path, Origin], path: Path) -> str:
    """Return the origin of the value at `path` as the comment behind it."""
    return f"  # {origins[path].text}" if path in origins else ""


def as_yaml(value: Any) -> str:
    """Return a value on one line, in a form that YAML 1.1 and 1.2 readers take alike."""
    if isinstance(value, str):
        plain = PLAIN.match(value) and value.lower() not in WORDS
        return value if plain else quote(value)
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        point = "" if "." in mantissa or not e else ".0"
        return f"{mantissa}{point}{e}{exponent}"
    if isinstance(value, list):
        return f"[{', '.join(as_yaml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{as_yaml(key)}: {as_yaml(item)}' for key, item in value.items())}}}"
    return json.dumps(value)


def quote(text: str) -> str:
    """Return text in double quotes, with what is not printable escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in quoted)
