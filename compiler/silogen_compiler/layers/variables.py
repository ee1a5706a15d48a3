"""References to environment variables in text values: `${env:NAME}`, `${env:NAME:-default}`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.layers.merge import texts
from silogen_compiler.layers.tracking import VARIABLES as MLFLOW
from silogen_compiler.load import Layer, Path, value_span
from silogen_compiler.values import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

# `$${env:NAME}` stands for the text `${env:NAME}` itself.
REFERENCE = re.compile(r"(\$?)\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
SECRET_NAME = re.compile(r"(?i)TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY")


def fill_in(layer: Layer, environment: Mapping[str, str]) -> Layer:
    """Return the layer with its references replaced. Raises Refused where one has no value, or is a secret.

    Under a key for secrets, a token, a reference stays: the runtime fills it in, and no output holds it.
    """
    if not any("${env:" in text for text in layer.sources.values()):
        return layer
    found: list[Diagnostic] = []
    data, variables = layer.data, dict(layer.variables)
    for path, text in texts(layer.data):
        if "${env:" not in text or str(path[-1]).endswith("token"):
            continue
        names = list(REFERENCE.finditer(text))
        problems = [problem for match in names for problem in _problems(layer, path, match, environment)]
        problems += _broken(layer, path) if text.count("${env:") > len(names) else []
        found += problems
        if not problems:
            filled = REFERENCE.sub(lambda match: _value(match, environment), text)
            data = _with(data, path, filled)
            used = [_named(match[2], environment) for match in names if not match[1]]
            variables |= {path: ", ".join(used)} if used else {}
    if found:
        raise Refused(*found)
    return layer._replace(data=data, variables=variables)


def refuse_bytes(environment: Mapping[str, str]) -> None:
    """Raise Refused where a variable that stands for a key does not hold text."""
    for name in (*ENVIRONMENT.values(), *MLFLOW.values()):
        if not is_text(environment.get(name, "")):
            raise Refused(Diagnostic("SG114", f"the environment variable `{name}` is not UTF-8"))


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    escaped, name, default = match.groups()
    return match[0][1:] if escaped else environment.get(name) or default or ""


def _named(name: str, environment: Mapping[str, str]) -> str:
    return name if name in environment else f"{name}, which is not set"


def _problems(
    layer: Layer, path: Path, match: re.Match[str], environment: Mapping[str, str]
) -> list[Diagnostic]:
    escaped, name, default = match.groups()
    span = value_span(layer, path)
    if escaped:
        return []
    if SECRET_NAME.search(name):
        message = f"`{name}` looks like a secret, and outputs show this value"
        return [
            Diagnostic(
                "SG115",
                message,
                span,
                "a secret goes under a key for one, such as `run_conf.model_args.token`",
                file=layer.name,
            )
        ]
    if not is_text(environment.get(name, "")):
        return [Diagnostic("SG114", f"the environment variable `{name}` is not UTF-8", span, file=layer.name)]
    if name not in environment and default is None:
        message = f"the environment variable `{name}` is not set"
        label = f"set it, or write ${{env:{name}:-default}}"
        return [Diagnostic("SG114", message, span, label, file=layer.name)]
    return []


def is_text(value: str) -> bool:
    """Tell whether an environment variable's value is text: bytes that are not UTF-8 come as surrogates."""
    return value.isprintable() or not any("\ud800" <= char <= "\udfff" for char in value)


def _broken(layer: Layer, path: Path) -> list[Diagnostic]:
    label = "write ${env:NAME} or ${env:NAME:-default}"
    message = "`${env:` starts no whole reference to an environment variable"
    return [Diagnostic("SG114", message, value_span(layer, path), label, file=layer.name)]


def _with(node: Any, path: Path, value: Any) -> Any:
    """Return a copy of `node` with `value` at `path`."""
    if not path:
        return value
    copy: Any = list(node) if isinstance(node, list) else dict(node)
    copy[path[0]] = _with(node[path[0]], path[1:], value)
    return copy
