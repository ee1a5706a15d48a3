"""load → merge → migrate → check → resolve → lower: from a config to the resolved config."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, Note, Refused, has_errors
from silogen_compiler.emit import add_digest
from silogen_compiler.layers.extends import from_disk, load_files, with_bases
from silogen_compiler.layers.merge import merge
from silogen_compiler.layers.settings import SET, SET_FILE, apply_settings
from silogen_compiler.layers.tracking import with_variables
from silogen_compiler.layers.variables import fill_in, refuse_bytes
from silogen_compiler.load import Layer, Path, load_text, value_span
from silogen_compiler.lower.lowering import API_VERSION, lower
from silogen_compiler.migrate import migrate
from silogen_compiler.resolve import resolve
from silogen_compiler.rules.general import check_rules
from silogen_compiler.rules.model import check_model
from silogen_compiler.targets import Target, installed_target, load_target
from silogen_compiler.validate import validate
from silogen_compiler.values import Config, Origin, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Compiled(NamedTuple):
    """What a config compiles to.

    `resolved` is None where `diagnostics` holds an error. `origins` maps paths of `resolved` to where their
    values come from; `sources` maps the names of the files read to their text. `config` is the config itself
    with all its values, None where it has errors.
    """

    resolved: dict[str, Any] | None
    origins: dict[Path, Origin]
    diagnostics: list[Diagnostic]
    sources: dict[str, str]
    config: Config | None = None


class Options(NamedTuple):
    """What a compile takes besides files.

    `settings` are texts KEY=VALUE above all files, `setting_files` texts KEY=FILE. `environment` is what
    `${env:NAME}`, CHECKPOINTS_PATH, LOGS_PATH and MLFLOW_* refer to; None is that of this process. `target`
    is a name, or None for what is installed. `world_size` is the number of processes that will train, None
    what the section `launch` says, else one.
    """

    settings: tuple[str, ...] = ()
    setting_files: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    world_size: int | None = None
    target: str | None = None


def compile_file(
    name: str, *overlays: str, read: Callable[[str], tuple[str, str]] = from_disk, **options: Any
) -> Compiled:
    """Compile the config file `name` (`-` is standard input) with the files above it.

    `read` takes a file's name and returns what findings call it, and its text. `options` are the fields of
    `Options`. Mistakes in the config are diagnostics.
    """
    sources: dict[str, str] = {}
    try:
        layers = load_files([name, *overlays], sources, read)
        return compile_layers(layers, **options)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), sources)


def compile_text(name: str, text: str, **options: Any) -> Compiled:
    """Compile a config's text; `name` stands in the findings, and its ending tells the format."""
    sources = {name: text}
    try:
        layers = with_bases(load_text(name, text), (name,), sources)
        return compile_layers(layers, **options)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), sources)


def compile_data(data: Mapping[str, Any], *, name: str = "config", **options: Any) -> Compiled:
    """Compile a config that is there as plain data; findings show it as JSON, under `name`."""
    return compile_text(f"{name}.json", json.dumps(data, indent=2, ensure_ascii=False), **options)


def check(name: str, *overlays: str, **options: Any) -> list[Diagnostic]:
    """Return the findings about a config file with the files above it: those of `compile_file`."""
    return compile_file(name, *overlays, **options).diagnostics


def compile_layers(layers: Sequence[Layer], **options: Any) -> Compiled:
    """Merge loaded layers, those that come later first, and compile them."""
    given = Options(**options)
    environment = os.environ if given.environment is None else given.environment
    target = load_target(given.target or installed_target())
    sources: dict[str, str] = {}
    try:
        layer = merge(layers)
        sources |= layer.sources
        layer = apply_settings(layer, given.settings, given.setting_files, sources)
        layer = fill_in(layer, environment)
        refuse_bytes(environment)
        layer = with_variables(layer, environment)
    except Refused as refused:
        return Compiled(None, {}, list(refused.diagnostics), sources)
    compiled = compile_layer(layer, target, given.world_size, environment)
    return compiled._replace(diagnostics=[_fixable(diagnostic) for diagnostic in compiled.diagnostics])


def _fixable(diagnostic: Diagnostic) -> Diagnostic:
    """Return a finding without its fix where it is about the command line, which no fix reaches."""
    is_file = diagnostic.span is None or diagnostic.span.file not in (SET, SET_FILE)
    return diagnostic if is_file else diagnostic._replace(fix=None)


def compile_layer(
    layer: Layer, target: Target, world_size: int | None, environment: Mapping[str, str]
) -> Compiled:
    """Check, resolve and lower a loaded config for `target`."""
    sources = layer.sources
    if layer.data.get("apiVersion") == API_VERSION:
        return Compiled(None, {}, [_already_resolved(layer)], sources)
    layer, migrated = migrate(layer, target)
    wrong, paths = validate(layer)
    values = Values(layer, world_size, environment, paths, has_gaps=bool(wrong))
    found = sorted([*wrong, *migrated, *check_rules(values), *check_model(values)], key=_order)
    found = [_placed(diagnostic, layer) for diagnostic in found]
    if has_errors(found):
        return Compiled(None, {}, found, sources)
    resolve(values)
    lowered = lower(values, target)
    found += [_placed(diagnostic, layer) for diagnostic in lowered.diagnostics]
    resolved = None if has_errors(found) else add_digest(lowered.resolved)
    return Compiled(resolved, lowered.origins, found, sources, values.config())


def _placed(diagnostic: Diagnostic, layer: Layer) -> Diagnostic:
    """Return a finding with its file, and with the place of the value that the one it is about replaced."""
    if diagnostic.span is None:
        return diagnostic._replace(file=diagnostic.file or layer.name)
    for path, below in layer.replaced.items():
        if value_span(layer, path) == diagnostic.span:
            note = Note(f"this `{path[-1]}` of a layer below was replaced", below)
            return diagnostic._replace(notes=(*diagnostic.notes, note))
    return diagnostic


def _order(diagnostic: Diagnostic) -> tuple[bool, int, int]:
    """Return the key that sorts findings by place, with missing keys behind all others."""
    span = diagnostic.span
    return diagnostic.code == "SG202", span.line if span else 0, span.column if span else 0


def _already_resolved(layer: Layer) -> Diagnostic:
    mark = layer.marks["apiVersion",]
    return Diagnostic(
        "SG112", "this config is resolved already", mark.value, "`silogen train` runs it as it is"
    )
