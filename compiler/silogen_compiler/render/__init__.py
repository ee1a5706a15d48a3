"""Findings as text for people and for other programs, one module a form."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.diagnostics import Diagnostic

    Renderer = Callable[[list[Diagnostic], dict[str, str]], str]

# Each form with the function that writes it: a form is imported only when it is asked for.
RENDERERS = {
    "text": "silogen_compiler.render.text:render_text",
    "json": "silogen_compiler.render.json_array:render_json",
    "github": "silogen_compiler.render.github_commands:render_github",
    "sarif": "silogen_compiler.render.sarif_log:render_sarif",
}


def renderer(form: str) -> Renderer:
    """Return the function that writes findings, with the text of the files that they are about."""
    module, _, attribute = RENDERERS[form].partition(":")
    found: Renderer = getattr(import_module(module), attribute)
    return found
