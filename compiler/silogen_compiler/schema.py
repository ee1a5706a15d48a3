"""The validation bundle: the config's schema in the form that validates, and its defaults."""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import silogen_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jsonschema_rs

Schema = dict[str, Any]

FOLDER = next(iter(silogen_config.__path__))


def read_json(name: str) -> Any:
    """Return the JSON file `name` of the generated package."""
    with open(f"{FOLDER}/{name}", encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs start-up time
        return json.load(file)


@cache
def bundle() -> Schema:
    """Return the validation bundle; its `$defs` hold every definition by name."""
    schema: Schema = read_json("validation.json")
    return schema


def validator(data: Any) -> jsonschema_rs.Draft202012Validator:
    """Return the validator for a config: with the method and the adapter type that the config uses.

    All methods and adapter types together cost more to prepare than the rest of a compile.
    """
    adapter = data.get("peft_conf")
    kind = str(adapter.get("peft_type")) if isinstance(adapter, dict) else ""
    return _validator(str(data.get("method")), kind)


def _jsonschema_rs() -> Any:
    """Import jsonschema_rs without email.utils.

    It reads the date of its own build with that, which costs a fifth of a cold compile and which nobody asks.
    """
    name = "email.utils"
    if name in sys.modules or "jsonschema_rs" in sys.modules:
        return import_module("jsonschema_rs")
    stand_in: Any = ModuleType(name)
    stand_in.parsedate_to_datetime = str
    sys.modules[name] = stand_in
    try:
        return import_module("jsonschema_rs")
    finally:
        del sys.modules[name]


@cache
def _validator(method: str, adapter: str) -> jsonschema_rs.Draft202012Validator:
    tags = {"ExperimentConfig": method, "PeftConfig": adapter}
    used: Schema = {}
    names = list(_refs(bundle()["$ref"]))
    for name in names:
        if name not in used:
            used[name] = _branch(bundle()["$defs"][name], tags.get(name))
            names += _refs(used[name])
    validator: jsonschema_rs.Draft202012Validator = _jsonschema_rs().Draft202012Validator(
        {**bundle(), "$defs": used}
    )
    return validator


def _branch(node: Schema, tag: str | None) -> Schema:
    """Return a union with the one branch that its tag chooses; the node itself where `tag` is None."""
    if tag is None:
        return node
    return {**node, "allOf": [branch for branch in node["allOf"] if tag in _tags(branch)] or [True]}


def _refs(node: Any) -> Iterator[str]:
    """Yield the names of the definitions that a schema refers to."""
    if isinstance(node, str):
        if node.startswith("#/$defs/"):
            yield node[len("#/$defs/") :]
    elif isinstance(node, (dict, list)):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _refs(item)


def _tags(branch: Schema) -> list[str]:
    """Return the values of the tag that choose a branch of a union."""
    ((_, allowed),) = branch["if"]["properties"].items()
    tags: list[str] = allowed["enum"]
    return tags


def deref(node: Schema) -> Schema:
    """Return the definition that `node` refers to, or `node` itself."""
    while "$ref" in node:
        node = bundle()["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def narrow(node: Schema, value: Any) -> Schema:
    """Return the object schema that `value` is checked against: references and unions resolved.

    Where the value fits no branch (null, an unknown tag), the node itself is returned.
    """
    node = deref(node)
    if "then" in node and value is not None:
        return narrow(node["then"], value)
    for branch in node.get("allOf", []):
        ((tag, allowed),) = branch["if"]["properties"].items()
        if isinstance(value, dict) and value.get(tag) in allowed["enum"]:
            return narrow(branch["then"], value)
    return node


def title(node: Schema) -> str:
    """Return the name of the definition that `node` is, or an empty text."""
    return next((name for name, other in bundle()["$defs"].items() if other is node), "")


def find(path: tuple[str | int, ...], data: Any) -> Schema:
    """Return the schema of the value at `path` of the config `data`, `{}` where the schema knows none."""
    node = narrow(bundle(), data)
    for key in path:
        data = _child(data, key)
        below = node.get("items", {}) if isinstance(key, int) else node.get("properties", {}).get(key, {})
        node = narrow(below, data)
    return node


def _child(data: Any, key: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(key)
    return data[key] if isinstance(data, list) and isinstance(key, int) and key < len(data) else None
