"""`python -m silogen_runtime.harvest NAME` writes schema/targets/NAME.json from the installed libraries.

`make targets` does so for every target, each in an environment of its own.

A target holds facts only: for each class the keyword arguments that it takes, with type, default and choices.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import json
import sys
import textwrap
import typing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trl
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel, TrainingArguments
from transformers.models.auto import tokenization_auto

PACKAGES = ("transformers", "trl", "peft", "bitsandbytes")
TARGETS = Path(__file__).parents[2] / "schema" / "targets"

# Attributes of a model's config that from_pretrained takes as well, as far as silogen's config names them.
CONFIG_ATTRIBUTES = ("use_cache",)

Surface = dict[str, dict[str, Any]]


def harvest(name: str) -> dict[str, Any]:
    """Return the target `name` for the versions that are installed."""
    configs = (TrainingArguments, trl.SFTConfig, trl.DPOConfig, *PEFT_TYPE_TO_CONFIG_MAPPING.values())
    return {
        "name": name,
        "packages": {package: version(package) for package in PACKAGES},
        "classes": {
            **{cls.__name__: _fields(cls) for cls in configs},
            "BitsAndBytesConfig": _parameters(BitsAndBytesConfig),
            "AutoModelForCausalLM": {
                **_popped(PreTrainedModel.from_pretrained, AutoModelForCausalLM.from_pretrained),
                **{name: _argument("", None, None) for name in CONFIG_ATTRIBUTES},
            },
            "AutoTokenizer": _popped(
                tokenization_auto.AutoTokenizer.from_pretrained, tokenization_auto.get_tokenizer_config
            ),
        },
    }


def _fields(cls: type) -> Surface:
    hints = typing.get_type_hints(cls)
    return {
        field.name: _argument(
            _words(hints[field.name]),
            _default(field),
            field.metadata.get("choices") or _values(hints[field.name]),
        )
        for field in dataclasses.fields(cls)
        if field.init
    }


def _values(hint: Any) -> list[Any]:
    """Return the values of an enumeration that a type may hold, e.g. `SchedulerType | str`."""
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
    return [member.value for kind in kinds if issubclass(kind, enum.Enum) for member in kind]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _parameters(cls: type) -> Surface:
    parameters = list(inspect.signature(cls).parameters.values())
    return {p.name: _argument("", p.default, None) for p in parameters if p.kind is not p.VAR_KEYWORD}


def _popped(*functions: Any) -> Surface:
    """Return the names that the functions take, or take out of `**kwargs` by name."""
    names: Surface = {}
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.kind is not parameter.VAR_POSITIONAL:
                names[parameter.name] = _argument("", parameter.default, None)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("kwargs.pop", "kwargs.get"):
                for constant in [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]:
                    assert isinstance(constant, str)
                    names.setdefault(constant, _argument("", None, None))
    return dict(sorted((name, spec) for name, spec in names.items() if not name.startswith("_")))


def _argument(kind: str, default: Any, choices: Any) -> dict[str, Any]:
    if default in (inspect.Parameter.empty, dataclasses.MISSING):
        return {"type": kind}
    default = default.value if isinstance(default, enum.Enum) else default
    default = dataclasses.asdict(default) if dataclasses.is_dataclass(default) else default  # type: ignore[arg-type]
    return {"type": kind, "default": default, **({"choices": list(choices)} if choices else {})}


def _words(hint: Any) -> str:
    return (
        hint.__name__
        if isinstance(hint, type) and not typing.get_args(hint)
        else str(hint).replace("typing.", "")
    )


def main() -> None:
    """Write the target, or with `--check` fail with 3 where it would change."""
    name, *options = sys.argv[1:]
    path, text = TARGETS / f"{name}.json", json.dumps(harvest(name), indent=1, default=str) + "\n"
    if "--check" in options:
        sys.exit(0 if path.read_text("utf-8") == text else 3)
    TARGETS.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
