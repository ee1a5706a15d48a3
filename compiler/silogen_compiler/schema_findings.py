"""What the schema has to say about a config with mistakes, in words: each mistake once, with its place."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, Edit, Fix
from silogen_compiler.hints import near_value, suggest_key
from silogen_compiler.load import Layer, describe, dotted, key_span, value_at, value_span
from silogen_compiler.schema import deref, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jsonschema_rs import ValidationError

    from silogen_compiler.diagnostics import Span
    from silogen_compiler.hints import Hint
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
        fix = _renamed(layer, path, name, hint)
        found.append(Diagnostic("SG201", message, span, hint.label, notes=note, file=layer.name, fix=fix))
    return found


def _renamed(layer: Layer, path: Path, name: str, hint: Hint) -> Fix | None:
    """Return the edits that write the key as the hint says, unless that is set already.

    A key of a list's items cannot be moved there: nothing tells to which item.
    """
    *section, key = hint.key.split(".")
    is_here = section == [part for part in path if isinstance(part, str)]
    new = (*path, key) if is_here else tuple(hint.key.split("."))
    if not hint.key or not hint.is_name or new in layer.marks:
        return None
    if is_here:
        return Fix((Edit((*path, name), key),), is_safe=False)
    if key not in find(tuple(section), layer.data).get("properties", {}):
        return None
    value = value_at(layer.data, (*path, name))
    return Fix((Edit((*path, name)), Edit(new, value=value)), is_safe=False)


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
    label = f"add `{written}`{one_of}"
    fix = Fix((Edit((*path, key), value={}),), is_safe=False) if _has_only_defaults(spec) else None
    return [Diagnostic("SG202", message, span, label, notes=note, file=layer.name, fix=fix)]


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
    path = tuple(error.instance_path)
    found = _at_value(layer, error, "SG203", message)
    meant = _meant(value, expected, find(path, layer.data), _spelled(layer, found.span))
    if meant is None:
        return [found]
    fix = Fix((Edit(path, value=meant.value),), meant.is_safe)
    return [found._replace(label=f"write {meant.label}", fix=fix)]


class Meant(NamedTuple):
    """A value of the right type that a wrong one stands for; `label` says how to write it."""

    label: str
    value: Any
    is_safe: bool = True


def _meant(value: Any, expected: list[str], node: dict[str, Any], spelled: str) -> Meant | None:
    """Return what `value`, spelled so in the file, is meant to be, if that can be told."""
    if value is None:
        has_defaults = "object" in expected and not node.get("required")
        return Meant("{} to take all defaults", {}, is_safe=False) if has_defaults else None
    if isinstance(value, str):
        return _unquoted(value, expected)
    if "string" not in expected or isinstance(value, (dict, list)):
        return None
    text = json.dumps(value)
    return Meant(f'"{text}"', text, is_safe=text == spelled)


BOOLEANS = {
    **dict.fromkeys(("yes", "on", "true"), True),
    **dict.fromkeys(("no", "off", "false"), False),
}


def _unquoted(text: str, expected: list[str]) -> Meant | None:
    """Return the boolean, null or number that a text seems to mean."""
    if "boolean" in expected and text.lower() in BOOLEANS:
        return Meant(json.dumps(BOOLEANS[text.lower()]), BOOLEANS[text.lower()])
    if "null" in expected and text.lower() == "none":
        return Meant("null", None)
    digits = text.replace("_", "")
    number = _number(digits) if {"number", "integer"} & set(expected) else None
    if number is None or not (number.is_integer() or "number" in expected):
        return None
    value = int(digits) if digits.lstrip("+-").isdecimal() else number
    return Meant(f"{digits} without quotes" if digits == text else digits, value)


def _number(text: str) -> float | None:
    """Return the finite number that a text is."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _spelled(layer: Layer, span: Span | None) -> str:
    """Return what stands at a span, up to the end of its line."""
    source = layer.sources.get(span.file, "") if span else ""
    return source.split("\n")[span.line - 1][span.column - 1 : span.end - 1] if span and source else ""


def _wrong_value(layer: Layer, error: ValidationError) -> list[Diagnostic]:
    allowed = error.kind.value if error.kind.name == "enum" else [error.kind.value]
    allowed = [json.loads(option) if isinstance(option, bytes) else option for option in allowed]
    message = f"`{_name(error)}` cannot be {_shown(error)}"
    found = _at_value(layer, error, "SG204", message)
    return [_with_near_value(found, error, allowed)._replace(help=f"allowed: {_listed(allowed)}")]


def _with_near_value(found: Diagnostic, error: ValidationError, allowed: list[Any]) -> Diagnostic:
    near = near_value(error.instance, allowed)
    fix = Fix((Edit(tuple(error.instance_path), value=near),), is_safe=False)
    return found._replace(label=f"did you mean `{near}`?", fix=fix) if near else found


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
    r"^[^:/ ]+:[0-9]{1,5}$": "HOST:PORT, such as node0:29500",
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
    found = _at_value(layer, error, "SG207", message)
    return [_with_near_value(found, error, allowed)._replace(help=help_text)]


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
