"""Reference pages: one Markdown page a schema file, one heading a definition, one table row a property."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from silogen_docs.bundle import SCHEMA_DIR, Schema, type_words

PAGES = Path("docs/reference")

# Page order and titles: the config from top to bottom, then what comes out of it.
TITLES = {
    "experiment": "The config",
    "data_conf": "data_conf",
    "training_args": "training_args",
    "dpo_training_args": "training_args of method dpo",
    "batchsize_conf": "batchsize_conf",
    "peft_conf": "peft_conf",
    "peft_kwargs": "peft_kwargs",
    "quant_conf": "quant_conf",
    "run_conf": "run_conf",
    "sft_args": "sft_args",
    "overrides": "overrides",
    "tracking": "tracking",
    "launch": "launch",
    "data_types": "Lines of data files",
    "resolved": "The resolved config",
}


def templates() -> Environment:
    """Return the templates of all pages."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the pages are Markdown, their text is ours
    )


def reference_pages() -> dict[Path, str]:
    """Return every reference page's path, relative to the repository, and its text."""
    environment = templates()
    schemas = {name: json.loads((SCHEMA_DIR / f"{name}.schema.json").read_text("utf-8")) for name in TITLES}
    page, index = environment.get_template("page.md.j2"), environment.get_template("index.md.j2")
    pages = {
        PAGES / f"{name}.md": page.render(title=TITLES[name], defs=_defs(schemas[name])) for name in TITLES
    }
    contents = [(name, title, list(schemas[name]["$defs"])) for name, title in TITLES.items()]
    return {PAGES / "index.md": index.render(pages=contents), **pages}


def _defs(schema: Schema) -> list[dict[str, Any]]:
    return [_definition(name, node) for name, node in schema["$defs"].items()]


def _definition(name: str, node: Schema) -> dict[str, Any]:
    required = node.get("required", [])
    rows = [_row(key, prop, required=key in required) for key, prop in node.get("properties", {}).items()]
    return {
        "name": name,
        "description": node["description"] + _extends(node),
        "type": _definition_type(node),
        "possible": _values(node),
        "rows": rows,
    }


def _extends(node: Schema) -> str:
    return f" Takes every property of {_link(node['x-extends'])} as well." if "x-extends" in node else ""


def _definition_type(node: Schema) -> str:
    closed = ", no further properties" if node.get("additionalProperties") is False else ""
    return (type_words(node) or "one of several objects") + closed


def _row(key: str, node: Schema, *, required: bool) -> tuple[str, ...]:
    default = f"`{json.dumps(node['default'])}`" if "default" in node else ""
    note = f" Replaced by `{node['x-replaced-by']}`." if "x-replaced-by" in node else ""
    since = f" Since {_version(node['x-since'])}." if "x-since" in node else ""
    until = f" Until {_version(node['x-until'])}." if "x-until" in node else ""
    cells = (f"`{key}`", _type(node), "yes" if required else "", _values(node), default)
    return tuple(_cell(text) for text in (*cells, node["description"] + note + since + until))


def _version(text: str) -> str:
    """Return a version with its package; a bare number is one of transformers."""
    return text if " " in text else f"transformers {text}"


def _type(node: Schema) -> str:
    if "const" in node:
        return "const"
    if "$ref" in node:
        return _link(node["$ref"])
    branches = [_type(branch) for key in ("oneOf", "anyOf") for branch in node.get(key, [])]
    if branches:
        return " or ".join([*(b for b in branches if b != "null"), *(b for b in branches if b == "null")])
    return type_words(node) or "any"


def _values(node: Schema) -> str:
    """Return what a property may hold beyond its type: fixed values, item type, range."""
    if "const" in node:
        return f"`{json.dumps(node['const'])}`"
    if "enum" in node:
        return ", ".join(f"`{json.dumps(value)}`" for value in node["enum"])
    if "discriminator" in node:
        pairs = node["discriminator"]["mapping"].items()
        return ", ".join(f"`{tag}`: {_link(ref)}" for tag, ref in pairs)
    items = [f"items: {_type(node['items'])}"] if node.get("items") else []
    pattern = [
        f"matches `{branch['pattern']}`" for branch in [node, *node.get("anyOf", [])] if "pattern" in branch
    ]
    return ", ".join([*items, *_range(node), *pattern])


BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _range(node: Schema) -> list[str]:
    return [f"{sign} {node[key]}" for key, sign in BOUNDS.items() if key in node]


def _link(ref: str) -> str:
    file, name = ref.split("#/$defs/")
    page = f"{file.removesuffix('.schema.json')}.md" if file else ""
    return f"[{name}]({page}#{name.lower()})"


def _cell(text: str) -> str:
    """Return `text` for a cell of a Markdown table, where a bar would end the cell."""
    return text.replace("|", "\\|").replace("\n", " ")
