"""What a fix does, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.emit import as_yaml
from silogen_compiler.load import dotted

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Edit, Fix


def describe_fix(fix: Fix) -> str:
    """Return what a fix does, with the command that makes it."""
    command = "silogen fix" if fix.is_safe else "silogen fix --unsafe"
    return f"{describe_edits(fix)} ({command})"


def describe_edits(fix: Fix) -> str:
    """Return what a fix does; of an entry that moves, its value is not shown: it may be a secret."""
    first, last = fix.edits[0], fix.edits[-1]
    if first.key is None and first.value is ... and len(fix.edits) > 1:
        return f"move `{first.path[-1]}` to `{dotted(last.path)}`"
    return ", ".join(_describe(edit) for edit in fix.edits)


def _describe(edit: Edit) -> str:
    if edit.value is ...:
        return f"rename `{edit.path[-1]}` to `{edit.key}`" if edit.key else f"remove `{edit.path[-1]}`"
    name = edit.key or (dotted(edit.path[-2:]) if isinstance(edit.path[-1], int) else edit.path[-1])
    value = edit.value if isinstance(edit.value, float) else as_yaml(edit.value)
    instead = f" in place of `{edit.path[-1]}`" if edit.key else ""
    return f"write `{name}: {value}`{instead}"
