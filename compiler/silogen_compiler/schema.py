"""The validation bundle: the config's schema in the form that validates, and its defaults."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs
import silogen_config

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
    """Return the validator for a config: of the adapter types it holds the one that the config uses.

    All of them together cost more to prepare than the rest of a compile.
    """
    adapter = data.get("peft_conf")
    return _validator(str(adapter.get("peft_type")) if isinstance(adapter, dict) else "")


@cache
def _validator(adapter: str) -> jsonschema_rs.Draft202012Validator:
    defs = bundle()["$defs"]
    branches = [branch for branch in defs["PeftConfig"]["allOf"] if adapter in _tags(branch)]
    used = {**defs, "PeftConfig": {**defs["PeftConfig"], "allOf": branches or [True]}}
    return jsonschema_rs.Draft202012Validator({**bundle(), "$defs": used})


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
