"""What the schema has to say about a config with mistakes, in words: each mistake once, with its place."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.hints import suggest_key, suggest_value
from silogen_compiler.load import Layer, describe, dotted, key_span, value_span
from silogen_compiler.schema import deref, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jsonschema_rs import ValidationError

    from silogen_compiler.load import Path

TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}

SECRETS = ("token",)

# Characters of a value that a message shows.
LONGEST = 60


def schema_findings(layer: Layer, errors: Iterable[ValidationError]) -> list[Diagnostic]:
    """Return the findings: unknown keys and wrong values as they stand, then missing keys."""
    found: list[Diagnostic] = []
    for error in errors:
        found += _KEYWORDS.get(error.kind.name, _other)(layer, error)
    answered = {d.label for d in found if d.code == "SG201"}
    unique = {(d.code, d.message, d.span): d for d in reversed(found)}.values()
    return [d for d in reversed(unique) if d.code != "SG202" or not _misspelled(d, answered)]


def _misspelled(missing: Diagnostic, labels: set[str]) -> bool:
    """Tell whether a key is missing because it is misspelled, which another finding says already."""
    key = missing.message.split("`")[1]
    return f"did you mean `{key}`?" in labels


def _unknown_keys(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    path = tuple(error.instance_path)
    section = dotted(path)
    node = find(path, layer.data)
    keys = dotted([key for key in path if isinstance(key, str)])
    found = []
    for name in error.kind.value:
        hint = suggest_key(name, keys, node)
        place = f" in `{section}`" if section else ""
        note = _schema_note(error, hint.key or keys)
        span = key_span(layer, (*path, name))
        message = f"unknown key `{name}`{place}"
        found.append(Diagnostic("SG201", message, span, hint.label, notes=note, file=layer.name))
    return found


def _missing_key(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    path, key = tuple(error.instance_path), error.kind.value
    section = dotted(path)
    spec = find(path, layer.data).get("properties", {}).get(key, {})
    one_of = f": one of {_listed(spec['enum'])}" if "enum" in spec else ""
    written = f"{key}: {{}}" if _has_only_defaults(spec) else key
    place = f"in `{section}`" if section else "at the top level"
    note = _schema_note(error, _explainable((*path, key), layer.data))
    message = f"missing key `{key}` {place}"
    span = key_span(layer, path) if path else None
    return [Diagnostic("SG202", message, span, f"add `{written}`{one_of}", notes=note, file=layer.name)]


def _has_only_defaults(spec: dict[str, Any]) -> bool:
    node = deref(spec)
    return "properties" in node and "allOf" not in node and not node.get("required")


def _wrong_type(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    expected = error.kind.value
    expected = [expected] if isinstance(expected, str) else list(expected)
    words = " or ".join(TYPES[kind] for kind in sorted(expected, key=lambda kind: kind == "null"))
    value = error.instance
    shown = f"`{value}`" if isinstance(value, float) and words == TYPES["integer"] else describe(value)
    message = f"`{_name(error)}` must be {words}, not {shown}"
    label = _retype(value, expected, find(tuple(error.instance_path), layer.data))
    return [_at_value(layer, error, "SG203", message)._replace(label=label)]


def _retype(value: Any, expected: list[str], node: dict[str, Any]) -> str:
    """Return how to write `value` so that its type is right, or an empty text."""
    if value is None:
        return "write {} to take all defaults" if "object" in expected and not node.get("required") else ""
    if isinstance(value, str):
        return _unquote(value, expected)
    is_scalar = not isinstance(value, (dict, list))
    return f'write "{json.dumps(value)}"' if "string" in expected and is_scalar else ""


def _unquote(text: str, expected: list[str]) -> str:
    """Return how to write what a text seems to mean: a boolean, null or a number."""
    if "boolean" in expected and text.lower() in ("yes", "on", "true", "no", "off", "false"):
        return f"write {'true' if text.lower() in ('yes', 'on', 'true') else 'false'}"
    if "null" in expected and text.lower() == "none":
        return "write null"
    number = text.replace("_", "")
    if {"number", "integer"} & set(expected) and _is_number(number, whole="number" not in expected):
        return f"write {number} without quotes" if number == text else f"write {number}"
    return ""


def _is_number(text: str, *, whole: bool) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return isfinite(number) and (number.is_integer() or not whole)


def _wrong_value(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    allowed = error.kind.value if error.kind.name == "enum" else [error.kind.value]
    allowed = [json.loads(option) if isinstance(option, bytes) else option for option in allowed]
    label = suggest_value(error.instance, allowed)
    message = f"`{_name(error)}` cannot be {_shown(error)}"
    help_text = f"allowed: {_listed(allowed)}"
    return [_at_value(layer, error, "SG204", message)._replace(label=label, help=help_text)]


_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}


def _out_of_range(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    words = _LIMITS[error.kind.name]
    message = f"`{_name(error)}` must be {words} {error.kind.value}, not {_shown(error)}"
    return [_at_value(layer, error, "SG205", message)]


def _empty(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    return [_at_value(layer, error, "SG206", f"`{_name(error)}` must not be empty")]


# What the patterns of the schema ask for.
PATTERNS = {
    r"^[^/\\]+$": "the name of a folder, without slashes",
    r"^(\.{1,2}|checkpoint-[0-9]+)$": "`.`, `..` and the names of checkpoints, such as checkpoint-500",
    r"^(0|[1-9][0-9]*)$": "a whole number from 0 on",
    r"^ *((underflow_overflow|tpu_metrics_debug)( +|$))*$": "underflow_overflow, tpu_metrics_debug",
}
CHOICE = re.compile(r"\^\(?((?:\w|\||\[0-9\]\+)+)\)?\$")


def _in_words(pattern: str) -> str:
    """Return what a pattern asks for: words that stand for it, or the names of which it is one."""
    choice = CHOICE.fullmatch(pattern)
    names = choice[1].replace("[0-9]+", "NUMBER").replace("|", ", ") if choice else ""
    return PATTERNS.get(pattern) or names or f"text that matches {pattern}"


def _other(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    """Report a mistake that has no simpler words: text that fits no pattern, a value that fits no form."""
    node = find(tuple(error.instance_path), layer.data)
    forms = [node, *node.get("anyOf", [])]
    allowed = [value for form in forms for value in form.get("enum", [])]
    patterns = [form["pattern"] for form in forms if "pattern" in form]
    words = [*([_listed(allowed)] if allowed else []), *map(_in_words, patterns)]
    banned = node.get("not", {}) if error.kind.name == "not" else {}
    words = [f"anything but {json.dumps(banned['const'])}"] if "const" in banned else words
    words = [f"anything but {_in_words(banned['pattern'])}"] if "pattern" in banned else words
    help_text = f"allowed: {', '.join(words)}" if words else ""
    message = f"`{_name(error)}` cannot be {_shown(error)}"
    label = suggest_value(error.instance, allowed)
    return [_at_value(layer, error, "SG207", message)._replace(label=label, help=help_text)]


_KEYWORDS: dict[str, Callable[[Layer, ValidationError], list[Diagnostic]]] = {
    "additionalProperties": _unknown_keys,
    "required": _missing_key,
    "type": _wrong_type,
    "enum": _wrong_value,
    "const": _wrong_value,
    **dict.fromkeys(_LIMITS, _out_of_range),
    "minItems": _empty,
    "minLength": _empty,
}


def _at_value(layer: Layer, error: ValidationError, code: str, message: str) -> Diagnostic:
    path = tuple(error.instance_path)
    note = _schema_note(error, _explainable(path, layer.data))
    return Diagnostic(code, message, value_span(layer, path), notes=note, file=layer.name)


def _explainable(path: Path, data: Any) -> str:
    """Return the dotted key, down to the last part that the schema names: what `silogen explain` takes."""
    keys = []
    for at, key in enumerate(path):
        if isinstance(key, str):
            if key not in find(path[:at], data).get("properties", {}):
                break
            keys.append(key)
    return ".".join(keys)


def _schema_note(error: ValidationError, key: str) -> tuple[str, ...]:
    where = error.schema_path
    definition = where[1] if len(where) > 1 and where[0] == "$defs" else "ExperimentConfig"
    return (f"schema: {definition} (silogen explain {key})" if key else f"schema: {definition}",)


def _name(error: ValidationError) -> str:
    path = error.instance_path
    return dotted(path[-2:]) if path and isinstance(path[-1], int) else str(path[-1]) if path else "config"


def _shown(error: ValidationError) -> str:
    """Return the value as a message shows it: short, and without secrets."""
    if error.instance_path and str(error.instance_path[-1]).endswith(SECRETS):
        return "this value"
    text = json.dumps(error.instance, ensure_ascii=False)
    return f"`{text if len(text) <= LONGEST else text[:LONGEST] + '...'}`"


def _listed(values: list[Any]) -> str:
    return ", ".join(json.dumps(value) if not isinstance(value, str) else value for value in values)
