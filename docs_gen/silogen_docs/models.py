"""Pydantic models from the bundles, by datamodel-code-generator."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from silogen_docs.bundle import Schema, load_bundle

# The models of whole configs, which compile themselves.
EXPERIMENTS = ("SFTExperimentConfig", "DPOExperimentConfig")

FLAGS = [
    "--input-file-type",
    "jsonschema",
    "--schema-version",
    "2020-12",
    "--output-model-type",
    "pydantic_v2.BaseModel",
    "--target-python-version",
    "3.11",
    "--use-annotated",
    "--field-constraints",
    "--strict-nullable",
    "--use-typed-nullable-map-values",
    "--use-typed-map-values-beside-other-types",
    "--use-default-kwarg",
    "--enum-field-as-literal",
    "all",
    "--use-schema-description",
    "--use-title-as-name",
    "--use-double-quotes",
    "--disable-timestamp",
    "--collapse-root-models",
    "--formatters",
    "ruff-check",
    "ruff-format",
    "--strict-refs",
    "--no-allow-remote-refs",
    "--base-class-map",
    json.dumps(dict.fromkeys(EXPERIMENTS, "silogen_config.experiment.Experiment")),
]

HEADER = "# Generated from schema/*.schema.json by `make generate`. Do not edit.\n"


def generate_models(*roots: str) -> str:
    """Return the Python source of one module with a model for every definition under `roots`."""
    defs: Schema = {}
    for root in roots:
        defs |= load_bundle(root)["$defs"]
    schema = {**load_bundle(roots[0]), "$defs": defs}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "silogen.schema.json"), Path(folder, "models.py")
        source.write_text(json.dumps(schema), "utf-8")
        command = [sys.executable, "-m", "datamodel_code_generator", *FLAGS]
        subprocess.run([*command, "--input", str(source), "--output", str(target)], check=True)  # noqa: S603 - fixed command
        return HEADER + target.read_text("utf-8")


def generate_package() -> str:
    """Return the package's `__init__`: the models by name, imported on first use.

    The compiler reads the bundles in this package's folder and must not pay for importing Pydantic.
    """
    return (
        HEADER
        + '''"""Pydantic models of the silogen config and of the resolved config."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from silogen_config.models import *


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(import_module("silogen_config.models"), name)
'''
    )


def generate_experiment() -> str:
    """Return the base class of whole configs, which the models import."""
    return (
        HEADER
        + '''"""What the model of a whole config can do."""

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
'''
    )
