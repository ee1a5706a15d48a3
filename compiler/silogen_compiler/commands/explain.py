"""`silogen explain`: what a key of the config takes, or what the code of a finding means."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from silogen_compiler.codes import CODES
from silogen_compiler.explain_code import explain_code
from silogen_compiler.hints import suggest_value
from silogen_compiler.schema import read_json

Schema = dict[str, Any]


@click.command()
@click.argument("name")
def explain(name: str) -> None:
    """Say what NAME means: a code such as SG201, or a key such as training_args.learning_rate."""
    text = explain_code(name) or _key(name, read_json("silogen.schema.json"))
    if not text:
        near = suggest_value(name, list(CODES))
        click.echo(f"silogen knows no code and no key `{name}`{f': {near}' if near else ''}", err=True)
        sys.exit(2)
    click.echo(text)


def _key(dotted: str, bundle: Schema) -> str:
    """Return the explanation of a key by its path, one for each definition that has it."""
    found = [("", bundle)]
    for part in dotted.split("."):
        objects = [obj for _, node in found for obj in _objects(node, bundle)]
        found = [
            (obj["title"], obj["properties"][part]) for obj in objects if part in obj.get("properties", {})
        ]
    unique = {json.dumps(node, sort_keys=True): (owner, node) for owner, node in reversed(found)}
    several = len(unique) > 1
    explained = reversed(unique.values())
    return "\n\n".join(
        _describe(f"{dotted} ({owner})" if several else dotted, node, bundle) for owner, node in explained
    )


def _objects(node: Schema, bundle: Schema) -> list[Schema]:
    """Return the object definitions that a node may stand for."""
    if "$ref" in node:
        return _objects(bundle["$defs"][node["$ref"].rpartition("/")[2]], bundle)
    branches = [*node.get("oneOf", []), *([node["items"]] if isinstance(node.get("items"), dict) else [])]
    return [obj for branch in branches for obj in _objects(branch, bundle)] or [node]


def _describe(name: str, node: Schema, bundle: Schema) -> str:
    facts = [(fact, _fact(key, node[key])) for key, fact in FACTS.items() if key in node]
    objects = [obj for obj in _objects(node, bundle) if "properties" in obj]
    keys = list(dict.fromkeys(key for obj in objects for key in obj["properties"]))
    facts += [("keys", ", ".join(keys))] if keys else []
    width = max((len(fact) for fact, _ in facts), default=0)
    return "\n".join(
        [name, "", node["description"], "", *(f"  {fact.ljust(width)}  {text}" for fact, text in facts)]
    )


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


def _fact(key: str, value: Any) -> str:
    if key in ("x-since", "x-until"):  # a bare version is one of transformers
        return value if " " in value else f"transformers {value}"
    if isinstance(value, list):
        return ", ".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)
