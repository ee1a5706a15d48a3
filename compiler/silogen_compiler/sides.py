"""The sides of a comparison: configs, git revisions of them, and resolved configs that a run saved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.layers.extends import from_disk, load_files
from silogen_compiler.lower.lowering import API_VERSION
from silogen_compiler.pipeline import compile_layers
from silogen_compiler.targets import packages_of_targets
from silogen_compiler.versions import from_revision, split_revision

if TYPE_CHECKING:
    from silogen_compiler.load import Layer, Path

SAVED = "resolved.json"  # what a run leaves in its output folder


class Side(NamedTuple):
    """One side of a comparison; `resolved` is None where `diagnostics` says why."""

    name: str
    resolved: dict[str, Any] | None
    origins: dict[Path, str]
    diagnostics: list[Diagnostic]
    sources: dict[str, str]


class _Loaded(NamedTuple):
    name: str
    layers: list[Layer]
    sources: dict[str, str]
    diagnostics: list[Diagnostic]

    @property
    def saved(self) -> Layer | None:
        """The resolved config, where the side is one."""
        is_saved = len(self.layers) == 1 and self.layers[0].data.get("apiVersion") == API_VERSION
        return self.layers[0] if is_saved else None


def read_sides(
    first: str, second: str, options: dict[str, Any], to_options: dict[str, Any]
) -> tuple[Side, Side]:
    """Return both sides; configs compile with `options`, the second with `to_options` over them.

    Beside a resolved config, a config compiles for the same target and processes unless the options say
    otherwise.
    """
    left, right = _load(first), _load(second)
    saved = left.saved or right.saved
    options = {**(compiled_for(saved.data) if saved else {}), **options}
    return _side(left, options), _side(right, {**options, **to_options})


def _load(name: str) -> _Loaded:
    sources: dict[str, str] = {}
    revision = split_revision(name)
    try:
        path = revision[1] if revision else _saved_in(name) if os.path.isdir(name) else name  # noqa: PTH112
        read = from_revision(*revision) if revision else from_disk
        return _Loaded(name, load_files([path], sources, read), sources, [])
    except Refused as refused:
        return _Loaded(name, [], sources, list(refused.diagnostics))


def _side(loaded: _Loaded, options: dict[str, Any]) -> Side:
    name, layers, sources, diagnostics = loaded
    if diagnostics:
        return Side(name, None, {}, diagnostics, sources)
    if loaded.saved:
        marks = {path: str(mark.value) for path, mark in loaded.saved.marks.items()}
        return Side(name, loaded.saved.data, marks, [], sources)
    compiled = compile_layers(layers, **options)
    origins = {path: origin.text for path, origin in compiled.origins.items()}
    return Side(name, compiled.resolved, origins, compiled.diagnostics, {**sources, **compiled.sources})


def _saved_in(folder: str) -> str:
    """Return the resolved config of the run that wrote to `folder`, or to the folder around a checkpoint."""
    for place in (folder, os.path.dirname(os.path.abspath(folder))):  # noqa: PTH100, PTH120
        name = os.path.join(place, SAVED)  # noqa: PTH118
        if os.path.isfile(name):  # noqa: PTH113
            return os.path.relpath(name)
    message = f"cannot read `{folder}`: it holds no {SAVED}"
    help_text = "Give the output folder of a run or one of its checkpoints, or a file."
    raise Refused(Diagnostic("SG101", message, help=help_text, file=folder))


def compiled_for(resolved: dict[str, Any]) -> dict[str, Any]:
    """Return the target and the processes that a resolved config was compiled for, as options."""
    target, launch = resolved.get("target"), resolved.get("launch")
    name = target.get("name") if isinstance(target, dict) else None
    processes = launch.get("world_size") if isinstance(launch, dict) else None
    found: dict[str, Any] = {"target": name} if name in packages_of_targets() else {}
    return {**found, "world_size": processes} if isinstance(processes, int) and processes > 0 else found
