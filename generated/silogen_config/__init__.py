# Generated from schema/*.schema.json by `make generate`. Do not edit.
"""Pydantic models of the silogen config and of the resolved config."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from silogen_config.models import *


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(import_module("silogen_config.models"), name)
