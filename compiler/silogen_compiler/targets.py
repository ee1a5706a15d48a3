"""Targets: which arguments each class takes in a named set of library versions, with their defaults."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any, NamedTuple

from silogen_compiler.schema import FOLDER, read_json

DEFAULT_TARGET = "hf-2026.11"


class Target(NamedTuple):
    """A named set of library versions.

    `packages` maps a package to its version, `classes` a class to its arguments and their defaults, `choices`
    a class to the values of those arguments that take fixed ones.
    """

    name: str
    packages: dict[str, str]
    classes: dict[str, dict[str, Any]]
    choices: dict[str, dict[str, list[Any]]]


def target_names() -> list[str]:
    """Return the names of all targets, the newest first."""
    names = sorted(name.removesuffix(".json") for name in os.listdir(f"{FOLDER}/targets"))  # noqa: PTH208
    return [DEFAULT_TARGET, *(name for name in names if name != DEFAULT_TARGET)]


def installed_target() -> str:
    """Return the target whose versions are all installed, else the newest. Reads names of folders only."""
    for name in target_names():
        packages = load_target(name).packages
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
