"""Stage 4, first half: what the schema has to say about a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.schema import validator

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Diagnostic
    from silogen_compiler.load import Layer, Path


def validate(layer: Layer) -> tuple[list[Diagnostic], frozenset[Path]]:
    """Return what is wrong with the layer, and the paths of the values that are wrong themselves."""
    check = validator(layer.data)
    if check.is_valid(layer.data):
        return [], frozenset()
    from silogen_compiler.schema_findings import schema_findings  # noqa: PLC0415 - start-up time

    errors = list(check.iter_errors(layer.data))
    values = [error for error in errors if error.kind.name not in ("additionalProperties", "required")]
    return schema_findings(layer, errors), frozenset(_value_path(error.instance_path) for error in values)


def _value_path(path: list[str | int]) -> Path:
    """Return the path of the wrong value; of a list with a wrong item, that of the list."""
    first_item = next((at for at, key in enumerate(path) if isinstance(key, int)), len(path))
    return tuple(path[:first_item])
