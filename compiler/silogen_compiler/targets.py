"""Targets: which arguments each class takes in a named set of library versions, with their defaults."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any, NamedTuple

from silogen_compiler.schema import read_json

DEFAULT_TARGET = "hf-2026.11"


class Target(NamedTuple):
    """A named set of library versions.

    `packages` maps a package to its version, `classes` a class to its arguments, sorted, and their defaults,
    `choices` a class to the values of those arguments that take fixed ones.
    """

    name: str
    packages: dict[str, str]
    classes: dict[str, dict[str, Any]]
    choices: dict[str, dict[str, list[Any]]]


@cache
def packages_of_targets() -> dict[str, dict[str, str]]:
    """Return the packages of each target with their versions, the newest target first."""
    packages: dict[str, dict[str, str]] = read_json("targets.json")
    return {DEFAULT_TARGET: packages[DEFAULT_TARGET], **packages}


def installed_target() -> str:
    """Return the target whose versions are all installed, else the newest. Reads names of folders only."""
    for name, packages in packages_of_targets().items():
        if all(_installed(package) == version for package, version in packages.items()):
            return name
    return DEFAULT_TARGET


@cache
def _installed(package: str) -> str:
    """Return the installed version of a package, as the name of its metadata folder tells it."""
    for folder in sys.path:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():  # noqa: PTH112, PTH208
            if name.startswith(f"{package}-") and name.endswith(".dist-info"):
                return name.removeprefix(f"{package}-").removesuffix(".dist-info")
    return ""


@cache
def load_target(name: str = DEFAULT_TARGET) -> Target:
    return Target(**read_json(f"targets/{name}.json"))
