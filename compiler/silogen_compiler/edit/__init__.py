"""Changes to a config's text. What is not changed stays as it is, byte for byte."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Refused
from silogen_compiler.load import load_value, value_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from silogen_compiler.diagnostics import Edit
    from silogen_compiler.load import Path

EDITORS = {
    "yaml": "silogen_compiler.edit.yaml_text",
    "json": "silogen_compiler.edit.json_text",
    "toml": "silogen_compiler.edit.toml_text",
}


def edit_text(name: str, text: str, edits: Sequence[Edit]) -> str | None:
    """Return the text of the config `name` with the edits made in order, or None where one cannot be made.

    `text` is a config that can be read, without a byte order mark. What a reference to the environment
    stands for is not written in its place.
    """
    editor = import_module(EDITORS.get(name.rpartition(".")[2].lower(), EDITORS["yaml"]))
    try:
        data = load_value(name, text).data
        is_written = any(edit.value is not ... for edit in edits)
        if is_written and any(_is_reference(data, edit.path) for edit in edits):
            return None
        edited: str | None = editor.edit(name, text, edits)
    except Refused:  # what an edit left cannot be read
        return None
    if edited is None or text.endswith("\n"):
        return edited
    return edited.removesuffix("\n").removesuffix("\r")


def _is_reference(data: Any, path: Path) -> bool:
    value = value_at(data, path)
    return isinstance(value, str) and "${env:" in value
