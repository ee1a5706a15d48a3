"""What the schema says about a key: type, values, default, description, versions."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NamedTuple

from silogen_compiler.hints import ALIASES, places_of
from silogen_compiler.schema import read_json

Schema = dict[str, Any]

INDEX = re.compile(r"\[\d+\]")

FACTS = {
    "type": "type",
    "const": "value",
    "enum": "values",
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "pattern": "matches",
    "default": "default",
    "x-since": "since",
    "x-until": "until",
    "x-replaced-by": "replaced by",
}


class Definition(NamedTuple):
    """A key as one definition of the schema has it; `owner` is that definition's name."""

    owner: str
    node: Schema


class AmbiguousError(Exception):
    """A name that stands for several keys."""

    def __init__(self, name: str, keys: list[str]) -> None:
        choices = "".join(f"\n  {key}" for key in keys)
        super().__init__(f"`{name}` is a key of several sections; name one of these:{choices}")
        self.name = name
        self.keys = keys


def keys_named(name: str) -> list[str]:
    """Return the dotted keys that `name` may stand for: itself, or every key of that name or its alias."""
    name = INDEX.sub("", name)
    if definitions(name):
        return [name]
    for key in (name, ALIASES.get(name.lower(), "")):
        found = [f"{section}.{key}" if section else key for section in places_of(key)]
        if found:
            return found
    return []


def definitions(key: str) -> list[Definition]:
    """Return what the schema says about a dotted key, one entry for each definition that has it."""
    bundle = _bundle()
    found = [Definition("", bundle)]
    for part in key.split("."):
        objects = [obj for _, node in found for obj in _objects(node)]
        found = [
            Definition(obj["title"], obj["properties"][part])
            for obj in objects
            if part in obj.get("properties", {})
        ]
    unique = {json.dumps(node, sort_keys=True): Definition(owner, node) for owner, node in reversed(found)}
    return list(reversed(unique.values()))


def explain_key(key: str, owner: str = "") -> str:
    """Return the explanation of a dotted key: for the definition `owner` where that has it, else for each."""
    found = definitions(key)
    found = [definition for definition in found if definition.owner == owner] or found
    several = len(found) > 1
    return "\n\n".join(_describe(f"{key} ({of})" if several else key, node) for of, node in found)


def replacement(key: str) -> str:
    """Return the dotted key that replaces an older one, or an empty text."""
    names = (node.get("x-replaced-by", "") for _, node in definitions(key))
    section, dot, _ = key.rpartition(".")
    return next((f"{section}{dot}{name}" for name in names if name), "")


def aligned(facts: list[tuple[str, str]]) -> str:
    """Return named facts, one a line, with the texts below each other."""
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join(f"  {name.ljust(width)}  {text}".rstrip() for name, text in facts)


@cache
def _bundle() -> Schema:
    bundle: Schema = read_json("silogen.schema.json")
    return bundle


def _objects(node: Schema) -> list[Schema]:
    """Return the object definitions that a node may stand for."""
    if "$ref" in node:
        return _objects(_bundle()["$defs"][node["$ref"].rpartition("/")[2]])
    branches = [*node.get("oneOf", []), *([node["items"]] if isinstance(node.get("items"), dict) else [])]
    return [obj for branch in branches for obj in _objects(branch)] or [node]


def _describe(name: str, node: Schema) -> str:
    node = {**_objects(node)[0], **node} if "$ref" in node else node
    facts = [(fact, _fact(key, node[key])) for key, fact in FACTS.items() if key in node]
    objects = [obj for obj in _objects(node) if "properties" in obj]
    keys = list(dict.fromkeys(key for obj in objects for key in obj["properties"]))
    facts += [("keys", ", ".join(keys))] if keys else []
    return "\n".join([name, "", node["description"], "", aligned(facts)])


def _fact(key: str, value: Any) -> str:
    if key in ("x-since", "x-until"):  # a bare version is one of transformers
        return value if " " in value else f"transformers {value}"
    if isinstance(value, list):
        return ", ".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)
