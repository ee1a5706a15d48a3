"""A resolved config as the runtime takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.load import Layer, dotted, key_span
from silogen_config import ResolvedConfig

if TYPE_CHECKING:
    from silogen_compiler.load import Path

HELP = "write resolved configs with `silogen compile`"


def parse(resolved: dict[str, Any], *, layer: Layer | None = None) -> ResolvedConfig:
    """Check a resolved config against its schema; Refused names the places in its file, `layer`."""
    try:
        return ResolvedConfig.model_validate(resolved)
    except ValidationError as error:
        found = [(_path(resolved, details["loc"]), details["msg"]) for details in error.errors()]
        raise Refused(*(_finding(path, problem, layer) for path, problem in found)) from error


def _finding(path: Path, problem: str, layer: Layer | None) -> Diagnostic:
    message = f"{dotted(path)}: {problem[:1].lower()}{problem[1:]}"
    if layer is None:
        return Diagnostic("SG701", message, help=HELP)
    return Diagnostic("SG701", message, key_span(layer, path), help=HELP, file=layer.name)


def _path(resolved: dict[str, Any], location: Path) -> Path:
    """Return the keys of a location of Pydantic's, which names the types of unions too."""
    path: Path = ()
    node: Any = resolved
    for step in location:
        held = isinstance(step, int) or (isinstance(node, dict) and step in node)
        path = (*path, step) if held or step == location[-1] else path
        node = node[step] if held else node
    return path
