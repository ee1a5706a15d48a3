"""One self-contained schema from the section files, in the forms that validators and editors want."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

ROOT = Path(__file__).parents[2]
SCHEMA_DIR = ROOT / "schema"

# Keywords that only people and editors read.
ANNOTATIONS = {"title", "description", "discriminator"}


def load_bundle(root: str) -> Schema:
    """Return the schema of schema/`root`.schema.json with the definitions of every file it refers to.

    All definitions share one namespace, so every `$ref` becomes `#/$defs/NAME`.
    """
    files = [root]
    defs: Schema = {}
    for name in files:
        schema = json.loads((SCHEMA_DIR / f"{name}.schema.json").read_text("utf-8"))
        for title, definition in schema["$defs"].items():
            assert title not in defs, f"{title} is defined twice"
            defs[title] = definition
        files += [n for n in _referenced_files(schema) if n not in files]
    defs = _extended(_map_refs(defs))
    bundle = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": defs}
    first = json.loads((SCHEMA_DIR / f"{root}.schema.json").read_text("utf-8"))
    return {**bundle, "$ref": first["$ref"]} if "$ref" in first else bundle


def _extended(defs: Schema) -> Schema:
    """Return the definitions with those that extend another holding its properties too; their own win."""
    out = dict(defs)
    for name, node in defs.items():
        if "x-extends" in node:
            base = defs[node["x-extends"].rpartition("/")[2]]
            own = {key: value for key, value in node.items() if key != "x-extends"}
            out[name] = {**own, "properties": {**base["properties"], **node["properties"]}}
    return out


def _referenced_files(node: Any) -> list[str]:
    return list(dict.fromkeys(ref.split(".schema.json")[0] for ref in _refs(node) if not ref.startswith("#")))


def _refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node[key] for key in ("$ref", "x-extends") if isinstance(node.get(key), str)]
        return own + [ref for value in node.values() for ref in _refs(value)]
    return [ref for item in node for ref in _refs(item)] if isinstance(node, list) else []


def _map_refs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _map_refs(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_map_refs(item) for item in node]
    if isinstance(node, str) and ".schema.json#" in node:
        return "#" + node.split("#")[1]
    return node


def validation_form(node: Any) -> Any:
    """Return the schema with unions as if/then and without annotations.

    A validator then reports each mistake inside a union once, with its exact path, instead of one opaque
    `oneOf` error. Defaults stay: the compiler resolves from them.
    """
    if isinstance(node, list):
        return [validation_form(item) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: node[key] for key in node if key not in ANNOTATIONS and not key.startswith("x-")}
    if "discriminator" in node:
        del rest["oneOf"]
        return {**rest, **_branches(**node["discriminator"])}
    if "oneOf" in node and {"type": "null"} in node["oneOf"]:
        (other,) = (branch for branch in rest.pop("oneOf") if branch != {"type": "null"})
        return {**rest, "if": {"not": {"type": "null"}}, "then": other}
    return {
        key: _named_schemas(value) if key in ("properties", "$defs") else _subschema(key, value)
        for key, value in rest.items()
    }


def _named_schemas(schemas: Schema) -> Schema:
    return {name: validation_form(schema) for name, schema in schemas.items()}


def _subschema(key: str, value: Any) -> Any:
    return value if key in ("default", "enum", "const") else validation_form(value)


def _branches(propertyName: str, mapping: dict[str, str]) -> Schema:  # noqa: N803 - the keyword's own spelling
    return {
        "type": "object",
        "required": [propertyName],
        "properties": {propertyName: {"enum": list(mapping)}},
        "allOf": [
            {
                "if": {
                    "required": [propertyName],
                    "properties": {propertyName: {"enum": [tag for tag in mapping if mapping[tag] == ref]}},
                },
                "then": {"$ref": ref},
            }
            for ref in dict.fromkeys(mapping.values())
        ],
    }


def editor_form(bundle: Schema) -> Schema:
    """Return the bundle with what editors show: Markdown with type, default and values, and deprecations."""
    objects = {f"#/$defs/{name}" for name, node in bundle["$defs"].items() if "properties" in node}
    form: Schema = _editor_node(bundle, objects)
    return form


def _editor_node(node: Any, objects: set[str]) -> Any:
    if isinstance(node, list):
        return [_editor_node(item, objects) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _editor_keyword(key, value, objects) for key, value in node.items()}
    if isinstance(node.get("description"), str):
        out["markdownDescription"] = _markdown(node)
    if node.get("deprecated"):
        out["deprecationMessage"] = node["description"]
    if "discriminator" in node or node.get("$ref") in objects:
        out["defaultSnippets"] = [{"label": "{}", "body": {}}]
    return out


def _editor_keyword(key: str, value: Any, objects: set[str]) -> Any:
    if key in ("properties", "$defs"):
        return {name: _editor_node(schema, objects) for name, schema in value.items()}
    return value if key in ("default", "enum", "const", "discriminator") else _editor_node(value, objects)


def _markdown(node: Schema) -> str:
    facts = [f"Type: `{kind}`" for kind in [type_words(node)] if kind]
    facts += (
        [f"Values: {', '.join(f'`{json.dumps(value)}`' for value in node['enum'])}"] if "enum" in node else []
    )
    scalar = "default" in node and not isinstance(node["default"], dict)
    facts += [f"Default: `{json.dumps(node['default'])}`"] if scalar else []
    return "\n\n".join([node["description"], *facts])


def type_words(node: Schema) -> str:
    """Return a property's type as people write it: `integer or null`."""
    kinds = node.get("type", "")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join([*(kind for kind in kinds if kind != "null"), *(["null"] if "null" in kinds else [])])
