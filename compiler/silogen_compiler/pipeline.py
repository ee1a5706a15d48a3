"""load → migrate → check → resolve → lower: from a config to the resolved config, in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.check import check_schema
from silogen_compiler.diagnostics import Diagnostic, Refused, has_errors
from silogen_compiler.emit import add_digest
from silogen_compiler.load import Layer, Path, load_text, read_source
from silogen_compiler.lower import API_VERSION, lower
from silogen_compiler.migrate import migrate
from silogen_compiler.model_rules import check_model
from silogen_compiler.resolve import resolve
from silogen_compiler.rules import check_rules
from silogen_compiler.targets import DEFAULT_TARGET, Target, load_target
from silogen_compiler.values import Origin, Values

if TYPE_CHECKING:
    from collections.abc import Mapping


class Compiled(NamedTuple):
    """What a config compiles to.

    `resolved` is None where `diagnostics` holds an error. `origins` maps paths of `resolved` to where their
    values come from; `sources` maps the names of the files read to their text.
    """

    resolved: dict[str, Any] | None
    origins: dict[Path, Origin]
    diagnostics: list[Diagnostic]
    sources: dict[str, str]


def compile_file(
    name: str, *, environment: Mapping[str, str], world_size: int = 1, target: str = DEFAULT_TARGET
) -> Compiled:
    """Compile the config file `name` (`-` is standard input) for `world_size` processes and a named target.

    CHECKPOINTS_PATH and LOGS_PATH are looked up in `environment`. Mistakes in the config are diagnostics.
    """
    try:
        text = read_source(name)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), {})
    name = printable(name)
    return compile_text(name, text, environment=environment, world_size=world_size, target=target)


def printable(name: str) -> str:
    """Return a file's name as findings and origins can hold it: on one line, in UTF-8."""
    whole = "".join(char if char.isprintable() else "?" for char in name)
    return whole.encode("utf-8", "replace").decode("utf-8")


def compile_text(
    name: str,
    text: str,
    *,
    environment: Mapping[str, str],
    world_size: int = 1,
    target: str = DEFAULT_TARGET,
) -> Compiled:
    """Compile a config's text; `name` stands in the findings, and its ending tells the format."""
    try:
        layer = load_text(name, text)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), {name: text})
    return compile_layer(layer, load_target(target), world_size, environment)


def compile_layer(layer: Layer, target: Target, world_size: int, environment: Mapping[str, str]) -> Compiled:
    """Check, resolve and lower a loaded config for `target`."""
    sources = {layer.name: layer.text}
    if layer.data.get("apiVersion") == API_VERSION:
        return Compiled(None, {}, [_already_resolved(layer)], sources)
    layer, migrated = migrate(layer, target)
    wrong, paths = check_schema(layer)
    values = Values(layer, world_size, environment, paths, has_gaps=bool(wrong))
    found = sorted([*wrong, *migrated, *check_rules(values), *check_model(values)], key=_order)
    if has_errors(found):
        return Compiled(None, {}, found, sources)
    resolve(values)
    lowered = lower(values, target)
    found += lowered.diagnostics
    resolved = None if has_errors(found) else add_digest(lowered.resolved)
    return Compiled(resolved, lowered.origins, found, sources)


def _order(diagnostic: Diagnostic) -> tuple[bool, int, int]:
    """Return the key that sorts findings by place, with missing keys behind all others."""
    span = diagnostic.span
    return diagnostic.code == "SG202", span.line if span else 0, span.column if span else 0


def _already_resolved(layer: Layer) -> Diagnostic:
    mark = layer.marks["apiVersion",]
    return Diagnostic(
        "SG112", "this config is resolved already", mark.value, "`silogen train` runs it as it is"
    )
