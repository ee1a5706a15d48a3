"""Targets: which arguments each class takes in a named set of library versions, with their defaults."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from silogen_compiler.schema import read_json

DEFAULT_TARGET = "hf-2026.11"


class Target(NamedTuple):
    """`packages` maps a package to its version, `classes` a class to its arguments and their defaults."""

    name: str
    packages: dict[str, str]
    classes: dict[str, dict[str, Any]]


@cache
def load_target(name: str = DEFAULT_TARGET) -> Target:
    return Target(**read_json(f"targets/{name}.json"))
