# Generated from schema/*.schema.json by `make generate`. Do not edit.
"""What the model of a whole config can do."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from silogen_compiler import Compiled


class Experiment(BaseModel):
    """A whole config, built in Python."""

    def compile(self, **options: Any) -> Compiled:
        """Compile what was set, as `silogen compile` does with the same keys in a file.

        `options` are those of `silogen_compiler.compile_data`: target, world_size, settings, environment.
        """
        data = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        compiled: Compiled = import_module("silogen_compiler").compile_data(data, **options)
        return compiled
