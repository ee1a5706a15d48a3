"""Whether the libraries here are those that a config was compiled for."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Findings
from silogen_compiler.targets import packages_of_targets

if TYPE_CHECKING:
    from silogen_config import ResolvedConfig

COMPARED = ("transformers", "trl", "peft")

Versions = dict[str, str]


def check_versions(config: ResolvedConfig) -> Findings:
    """Yield an error where a major or minor version differs, a warning for any other difference."""
    wanted: Versions = {name: getattr(config.target, name) for name in COMPARED}
    installed = {name: version(name) for name in COMPARED}
    if wanted == installed:
        return
    differing = [name for name in COMPARED if wanted[name] != installed[name]]
    listed = [", ".join(f"{name} {of[name]}" for name in differing) for of in (wanted, installed)]
    yield Diagnostic(
        "SG729" if fits(wanted, installed) else "SG728",
        f"the config is compiled for {listed[0]}, and {listed[1]} is here",
        help=_help(wanted, installed),
    )


def fits(wanted: Versions, installed: Versions) -> bool:
    return all(_minor(wanted[name]) == _minor(installed[name]) for name in COMPARED)


def _minor(release: str) -> list[str]:
    return release.split(".")[:2]


def _help(wanted: Versions, installed: Versions) -> str:
    install = "pip install " + " ".join(f"{name}=={wanted[name]}" for name in COMPARED)
    targets = [name for name, packages in packages_of_targets().items() if fits(packages, installed)]
    return f"compile with `--target {targets[0]}`, or {install}" if targets else install
