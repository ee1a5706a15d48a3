"""Stage 7: the resolved config as text, in many formats."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.emit.json_text import emit as emit_json
from silogen_compiler.emit.yaml_text import as_yaml
from silogen_compiler.emit.yaml_text import emit as emit_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin

__all__ = [
    "FORMATS",
    "Format",
    "add_digest",
    "as_yaml",
    "describe_formats",
    "digest",
    "emit_json",
    "emit_yaml",
]

UNNAMED = ("run.yaml",)
INEXACT = frozenset((float, dict, list))  # what may be, or hold, a whole number that is no integer
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Format(NamedTuple):
    """A format: the module of this package whose `emit` writes it, and what it is for.

    Calling it returns the resolved config in that format. `inputs` are the words of the command line that it
    was compiled from: files and settings, as `silogen train` takes them too. Refused where the format can't
    hold the config. The module is imported by then only.
    """

    module: str
    help: str

    def __call__(
        self, resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str] = UNNAMED
    ) -> str:
        text: str = import_module(f"{__name__}.{self.module}").emit(resolved, origins, inputs)
        return text


FORMATS = {
    "yaml": Format("yaml_text", "resolved config, each value with its origin"),
    "json": Format("json_text", "resolved config"),
    "toml": Format("toml_text", "resolved config, each value with its origin"),
    "python": Format("python_script", "script that trains the same with transformers, trl and peft alone"),
    "accelerate": Format("accelerate", "config file for `accelerate launch`"),
    "deepspeed": Format("deepspeed", "DeepSpeed's own config, with the numbers in place of `auto`"),
    "torchrun": Format("torchrun", "command line that starts the run's processes"),
}


def describe_formats() -> str:
    """Return what each format is for, a line each, as help that click leaves as it is."""
    return "\b\nFormats:\n" + "\n".join(f"  {name:11} {format_.help}" for name, format_ in FORMATS.items())


def add_digest(resolved: dict[str, Any]) -> dict[str, Any]:
    """Return the resolved config with the SHA-256 of its canonical JSON as `digest`."""
    return {**resolved, "digest": digest(resolved)}


def digest(resolved: dict[str, Any]) -> str:
    """Return the digest over everything in `resolved` but its own `digest`; 1 and 1.0 are the same."""
    content = _whole({key: value for key, value in resolved.items() if key != "digest"})
    return "sha256:" + hashlib.sha256(CANONICAL.encode(content).encode()).hexdigest()


def _whole(node: Any) -> Any:
    """Return `node` with its whole numbers as integers, as canonical JSON (RFC 8785) writes them."""
    if type(node) is float:
        return int(node) if node.is_integer() else node
    items = node.items() if type(node) is dict else enumerate(node)
    changed = {key: _whole(value) for key, value in items if type(value) in INEXACT}
    if not changed:
        return node
    return {**node, **changed} if type(node) is dict else [changed.get(at, x) for at, x in enumerate(node)]
