"""What the keys of one config are: their values, where those come from, and the arguments they land in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import has_errors
from silogen_compiler.emit import as_yaml
from silogen_compiler.explain.key import INDEX, AmbiguousError, aligned, explain_key, keys_named, replacement
from silogen_compiler.load import dotted
from silogen_compiler.lower.landings import ARGS, MODEL, NO_EFFECT, PEFT, QUANTIZATION, TOKENIZER, landing
from silogen_compiler.rules.secrets import SECRETS, is_secret
from silogen_compiler.schema import find, title
from silogen_compiler.targets import load_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from silogen_compiler.diagnostics import Diagnostic
    from silogen_compiler.load import Path
    from silogen_compiler.pipeline import Compiled
    from silogen_compiler.values import Config, Origin

# Where the resolved config names the class that takes a set of arguments.
CLASSES: dict[Path, Path] = {
    ARGS: ("trainer", "args_class"),
    PEFT: ("peft", "class"),
    QUANTIZATION: ("quantization", "class"),
}
MOST_IN_FULL = 4  # values of a section that are explained one by one; more are listed
LOADERS: dict[Path, str] = {MODEL: "AutoModelForCausalLM", TOKENIZER: "AutoTokenizer"}


class Argument(NamedTuple):
    """A value of the resolved config. `rule` has worked it out from a key that itself lands nowhere."""

    place: Path
    value: Any
    rule: str = ""


class Row(NamedTuple):
    """A value of a config, with its origin and the arguments that it lands in."""

    path: Path
    value: Any
    origin: Origin
    arguments: list[Argument]


def rows(compiled: Compiled) -> list[Row]:
    """Return every value of a config that compiles, in the order of its sections."""
    config, resolved, landed = compiled.config, compiled.resolved, _landed(compiled)
    assert config is not None
    assert resolved is not None
    order = {section: number for number, section in enumerate(config.data)}
    paths = sorted(config.origins, key=lambda path: order[str(path[0])])
    found = [(path, landed.get(path) or _worked_out(path, config, landed)) for path in paths]
    return [Row(path, _shown(config, path, to), config.origins[path], to) for path, to in found]


def arguments_without_key(compiled: Compiled) -> list[tuple[Path, Any, Origin]]:
    """Return what of the resolved config comes from no key of the config, such as a class's defaults."""
    return [(a.place, a.value, compiled.origins[a.place]) for a in _landed(compiled).get((), [])]


def key_of_argument(name: str, results: Mapping[str, Compiled]) -> tuple[str, str]:
    """Return the key that the argument `name` (`trainer.args.warmup_steps`) comes from, and the target.

    The key is empty where the value comes from no key; both are where there is no such argument.
    """
    for target, compiled in results.items():
        for at, origin in compiled.origins.items() if compiled.resolved else ():
            if name in (dotted(at), INDEX.sub("", dotted(at))):
                return dotted(origin.key), target
    return "", ""


def explain_in_config(name: str, results: Mapping[str, Compiled]) -> str:
    """Return what `name` is: a key, a name of one, or an argument; empty where it is none.

    `results` holds the config compiled for each target, first the one whose values are shown; it compiles.
    Raises AmbiguousError where the config has several keys of that name.
    """
    chosen = next(iter(results.values()))
    keys = keys_named(name)
    if not keys:
        return _explain_argument(name, results)
    values = rows(chosen)
    present = [key for key in keys if _matching(key, values)] or keys
    if len(present) > 1:
        raise AmbiguousError(name, present)
    key = name if "." in name else present[0]
    return "\n\n".join([explain_key(INDEX.sub("", key), _owner(key, chosen)), _in_config(key, results)])


def class_of(resolved: Mapping[str, Any], place: Path) -> str:
    """Return the class that takes the argument at `place`, empty for what the runtime itself reads."""
    section = place[:2]
    if section in CLASSES:
        return str(value_at(resolved, CLASSES[section]))
    return LOADERS.get(section, "")


def value_at(node: Any, path: Path) -> Any:
    """Return the value at `path` of a tree, `...` where there is none."""
    for key in path:
        held = (isinstance(node, dict) and key in node) or (isinstance(node, list) and isinstance(key, int))
        if not held:
            return ...
        node = node[key]
    return node


def _explain_argument(name: str, results: Mapping[str, Compiled]) -> str:
    key, target = key_of_argument(name, results)
    if not target:
        return ""
    compiled = results[target]
    if key:
        return f"`{name}` comes from `{key}`.\n\n{explain_in_config(key, results)}"
    place = next(at for at in compiled.origins if name in (dotted(at), INDEX.sub("", dotted(at))))
    facts = [("value", as_yaml(value_at(compiled.resolved, place))), ("origin", compiled.origins[place].text)]
    return f"`{name}` comes from no key of the config.\n\n{aligned(facts)}"


def _in_config(key: str, results: Mapping[str, Compiled]) -> str:
    """Return the part of an explanation that is about the config."""
    chosen = next(iter(results.values()))
    found = _matching(key, rows(chosen))
    if not found:
        new = replacement(key)
        instead = f" It counts as `{new}`:\n\n{_in_config(new, results)}" if new else ""
        return f"It has no value in this config.{instead}"
    if len(found) > MOST_IN_FULL:
        facts = [(dotted(row.path), f"{as_yaml(row.value)}  # {row.origin.text}") for row in found]
        return f"Its values in this config, for {next(iter(results))}:\n\n{aligned(facts)}"
    several = len(found) > 1
    return "\n\n".join(_explain_row(row, results, dotted(row.path) if several else "") for row in found)


def _explain_row(row: Row, results: Mapping[str, Compiled], name: str) -> str:
    facts = [("value", as_yaml(row.value)), ("rule", row.origin.rule), ("origin", row.origin.text)]
    lands = [(target, text) for target, c in results.items() for text in _landing_texts(row.path, c)]
    lands = [
        ("" if n and lands[n - 1][0] == target else target, text) for n, (target, text) in enumerate(lands)
    ]
    place = f"{name} in this config" if name else "In this config"
    shown = aligned([fact for fact in facts if fact[1]])
    heading = f"{place}, for {next(iter(results))}:"
    return "\n".join([heading, "", shown, "", "It lands in:", "", aligned(lands)])


def _landing_texts(path: Path, compiled: Compiled) -> list[str]:
    """Return the arguments that a value lands in, or why there is none."""
    if compiled.resolved is None or compiled.config is None:
        return [f"none: the config does not compile for it: {_first_error(compiled.diagnostics)}"]
    landed = _landed(compiled)
    arguments = landed.get(path) or _worked_out(path, compiled.config, landed)
    return [_argument_text(a, compiled.resolved) for a in arguments] or [f"none: {_why_none(path, compiled)}"]


def _argument_text(argument: Argument, resolved: Mapping[str, Any]) -> str:
    of = class_of(resolved, argument.place)
    taken = f" ({of})" if of else ""
    rule = f", by the rule {argument.rule}" if argument.rule else ""
    return f"{dotted(argument.place)} = {as_yaml(argument.value)}{taken}{rule}"


def _why_none(path: Path, compiled: Compiled) -> str:
    """Return why a value has no argument in a target."""
    resolved, place = compiled.resolved or {}, landing(path)
    key, target = dotted(path), load_target(resolved["target"]["name"])
    if key in NO_EFFECT:
        return NO_EFFECT[key][1]
    if path[0] == "quant_conf" and resolved["quantization"] is None:
        return "nothing is quantized"
    if place is None:
        return "it only steers other values and classes"
    name = class_of(resolved, place)
    if name in target.classes and place[2] not in target.classes[name]:
        return f"{name} of {target.name} has no `{place[2]}`"
    return "the argument is passed only where it is set"


def _first_error(diagnostics: list[Diagnostic]) -> str:
    return next(f"{d.code}: {d.message}" for d in diagnostics if has_errors([d]))


def _landed(compiled: Compiled) -> dict[Path, list[Argument]]:
    """Return the arguments that each key lands in, as lowering left them; under `()` those without a key."""
    found: dict[Path, list[Argument]] = {}
    for place, origin in compiled.origins.items():
        value = value_at(compiled.resolved, place)
        if value is not ...:
            found.setdefault(origin.key, []).append(Argument(place, value))
    return found


def _worked_out(path: Path, config: Config, landed: Mapping[Path, list[Argument]]) -> list[Argument]:
    """Return the arguments that rules have worked out from a key."""
    outputs = [output for output, keys in config.inputs.items() if dotted(path) in keys and output != path]
    return [
        argument._replace(rule=config.origins[output].rule)
        for output in outputs
        for argument in landed.get(output, [])
    ]


def _shown(config: Config, path: Path, arguments: list[Argument]) -> Any:
    """Return a value of the config, with a reference to the environment where it is a secret."""
    value = value_at(config.data, path)
    texts = [a.value for a in arguments if isinstance(a.value, str) and not a.rule]
    secret = SECRETS.get(dotted(path))
    if secret and is_secret(value):
        return f"${{env:{secret}}}"
    return texts[0] if isinstance(value, str) and texts else value


def _matching(key: str, values: list[Row]) -> list[Row]:
    """Return the values at or below a key, whose list indices may be left out."""
    return [row for row in values if _is_within(key, dotted(row.path)) or _is_within(key, _plain(row.path))]


def _is_within(key: str, name: str) -> bool:
    return name == key or name.startswith((f"{key}.", f"{key}["))


def _plain(path: Path) -> str:
    return INDEX.sub("", dotted(path))


def _owner(key: str, compiled: Compiled) -> str:
    """Return the definition that has the key in this config."""
    section = tuple(INDEX.sub("[0]", key).replace("[0]", ".0").split("."))[:-1]
    path = tuple(int(part) if part.isdigit() else part for part in section)
    return title(find(path, compiled.config.data)) if compiled.config else ""
