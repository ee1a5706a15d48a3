"""The page of all codes, and the examples that `silogen explain` shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silogen_compiler.codes import CODES

from silogen_docs.examples import compile_snippet, load_examples, printed
from silogen_docs.reference import templates

if TYPE_CHECKING:
    from silogen_docs.examples import Example

PAGE = Path("docs/errors.md")
DATA = Path("generated/silogen_config/code_examples.json")

# What the codes are about, by their first digit.
GROUPS = {
    "SG1": "Reading a config",
    "SG2": "The schema",
    "SG3": "Rules",
    "SG4": "Older keys",
    "SG5": "The target",
    "SG6": "Data",
    "SG7": "The run",
}


def error_pages() -> dict[Path, str]:
    """Return the page of all codes, and its examples as data. Compiles every example."""
    shown = {code: _shown(example) for code, example in load_examples().items()}
    template = templates().get_template("errors.md.j2")
    data = json.dumps(shown, indent=1, ensure_ascii=False) + "\n"
    return {DATA: data, PAGE: template.render(groups=_groups(shown))}


def _shown(example: Example) -> dict[str, str]:
    """Return an example as people see it, with what is printed."""
    prints = example.prints or printed(compile_snippet(example, example.wrong))
    return {"given": _given(example), "wrong": example.wrong, "prints": prints, "right": example.right}


def _given(example: Example) -> str:
    """Return what a snippet alone does not show: its file, and the options of the command."""
    place = [] if example.file == "run.yaml" else [f"in {example.file}"]
    if example.encoding != "utf-8":
        place.append(f"saved as {example.encoding}")
    options = [f"--world-size {example.world_size}"] if example.world_size else []
    options += (
        [f"--target {example.target}"] if example.target != type(example)._field_defaults["target"] else []
    )
    return ", ".join([*place, *(f"with {option}" for option in options)])


def _groups(shown: dict[str, dict[str, str]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the codes by what they are about, each with its texts and its example."""
    entries = [
        {"code": code, **CODES[code]._asdict(), **example, **_languages(example)}
        for code, example in shown.items()
    ]
    return [
        (heading, [entry for entry in entries if entry["code"].startswith(prefix)])
        for prefix, heading in GROUPS.items()
    ]


def _languages(example: dict[str, str]) -> dict[str, str]:
    """Return the language of each snippet, for the colours of a page."""
    return {f"{key}_language": _language(example[key]) for key in ("wrong", "right")}


def _language(snippet: str) -> str:
    return {"$": "console", "{": "json"}.get(snippet[0], "yaml")
