"""A config with every default filled in, and the origin of each value: what rules read."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Note, Span
from silogen_compiler.load import Layer, Mark, Path, find_mark, value_span
from silogen_compiler.schema import Schema, bundle, deref, find, narrow

if TYPE_CHECKING:
    from collections.abc import Mapping


class Origin(NamedTuple):
    """Where a resolved value comes from; `text` is what people read.

    It is a place in a file, `default`, an environment variable, or the arithmetic of the `rule`. `key` is the
    path in the config that the value belongs to, and stays with it wherever it lands; it is empty for what no
    key of the config sets.
    """

    text: str
    rule: str = ""
    key: Path = ()


DEFAULT = Origin("default")
NOTHING: Any = object()  # where a key has no default
CONTAINERS = (dict, list)


@lru_cache(4096)
def default_origin(path: Path) -> Origin:
    """Return the origin of the default at `path`: one object for each path, since there are many."""
    return Origin(DEFAULT.text, key=path)


# Keys whose default an environment variable replaces, as in the original engine.
ENVIRONMENT: dict[Path, str] = {
    ("training_args", "output_dir"): "CHECKPOINTS_PATH",
    ("training_args", "logging_dir"): "LOGS_PATH",
}

# Sections whose defaults are kept between compiles: a list of data sets may have many of them.
MOST_PLANS = 1000
MOST_KEYS = 4096  # findings name keys of people's own


class _Parts(dict[str, tuple[str, ...]]):
    """The parts of each dotted key that rules read: a plain look-up, since each compile makes hundreds."""

    def __missing__(self, key: str) -> tuple[str, ...]:
        parts = tuple(key.split("."))
        return self.setdefault(key, parts) if len(self) < MOST_KEYS else parts


PARTS = _Parts()


class Config(NamedTuple):
    """A config with all its values, as plain data: what `Values` holds, and the places of what is written."""

    data: dict[str, Any]
    origins: dict[Path, Origin]
    inputs: dict[Path, tuple[str, ...]]
    marks: dict[Path, Mark]


class Values:
    """A config with all its defaults, and the origin of every value.

    Plain data inside: `data` as in the config, `origins` by path. A list of scalars has one origin. `inputs`
    maps what a rule set to the keys that the rule read.
    """

    def __init__(
        self,
        layer: Layer,
        world_size: int | None,
        environment: Mapping[str, str],
        wrong: frozenset[Path] = frozenset(),
        *,
        has_gaps: bool = False,
    ) -> None:
        """Fill in the defaults.

        Without `world_size` the number of processes is what the section `launch` says, else one.
        What stands at the paths `wrong` is left out, and no default takes its place. `has_gaps` tells that
        values are wrong or missing, so that a key may be absent.
        """
        self.layer = layer
        self.wrong = wrong
        self.has_gaps = has_gaps
        self.rule = ""
        self.reads: list[str] = []
        self.inputs: dict[Path, tuple[str, ...]] = {}
        self.environment = environment
        self.origins: dict[Path, Origin] = {}
        self.data: dict[str, Any] = self._fill(bundle(), layer.data, ())
        self.given_world_size = world_size
        self.world_size = world_size or _processes(self.data.get("launch"))

    def config(self) -> Config:
        return Config(self.data, self.origins, self.inputs, self.layer.marks)

    def __getitem__(self, key: str) -> Any:
        """Return the value at a dotted key."""
        self.reads.append(key)
        value: Any = self.data
        for part in PARTS[key]:
            value = value[part]
        return value

    def start(self, rule: str) -> None:
        """Begin the rule that reads and sets values from here on."""
        self.rule, self.reads = rule, []

    def set(self, key: str, value: Any, text: str) -> None:
        """Replace the value at a dotted key by what the current rule works out, as `text` shows."""
        path = PARTS[key]
        *sections, name = path
        section = self.data
        for part in sections:
            section = section[part]
        if isinstance(section.get(name), dict):
            self.origins = {at: origin for at, origin in self.origins.items() if at[: len(path)] != path}
        section[name] = value
        self.origins[path] = Origin(text, self.rule, path)
        self.inputs[path] = tuple(dict.fromkeys(self.reads))

    def bit_widths(self) -> list[int]:
        """Return the widths that `quant_conf` asks for: [], [4], [8], or both by mistake."""
        quantization = self["quant_conf"]
        return [width for width in (4, 8) if quantization.get(f"load_in_{width}bit")]

    def span(self, key: str) -> Span | None:
        """Return where a value, or else its section, is written."""
        return value_span(self.layer, PARTS[key])

    def is_written(self, key: str) -> bool:
        """Tell whether a person wrote the key, whatever its value."""
        return PARTS[key] in self.layer.marks

    def is_default(self, key: str) -> bool:
        """Tell whether a value is what it would be without the key."""
        path = PARTS[key]
        return bool(self[key] == find(path, self.layer.data).get("default"))

    def also(self, key: str) -> tuple[str | Note, ...]:
        """Return a note that names the place of the other key of a conflict."""
        name, path = key.rpartition(".")[2], PARTS[key]
        if path not in self.layer.marks:
            return (f"`{name}` is {self.shown(key)}",)
        return (Note(f"`{name}` is {as_text(self[key])}", self.span(key)),)

    def origin(self, key: str) -> Origin:
        """Return the origin of a value, for a mapping that of its first value."""
        path = PARTS[key]
        below = (origin for at, origin in self.origins.items() if at[: len(path)] == path)
        return self.origins.get(path) or next(below, DEFAULT)

    def shown(self, key: str) -> str:
        """Return a value with its place, for the arithmetic behind another value."""
        return f"{as_text(self[key])} ({self.origin(key).text})"

    def _fill(self, node: Schema, value: Any, path: Path) -> Any:
        if type(value) not in CONTAINERS:
            self.origins[path] = self._written(path)
            return _as_integers(deref(node), value) if type(value) is float else value
        node = narrow(node, value)
        if isinstance(value, list) and isinstance(deref(node.get("items", {})).get("properties"), dict):
            return [self._fill(node["items"], item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, list) or "properties" not in node:
            return self._leaf(node, value, path)
        return self._section(node, value, path)

    def _section(self, node: Schema, value: dict[str, Any], path: Path) -> dict[str, Any]:
        """Return a section with the defaults of all that it leaves out."""
        plan, origins = _plan(path, node), self.origins
        filled = plan.defaults.copy()
        origins.update(plan.origins)
        for key, below in plan.sections.items():
            if key not in value:
                filled[key] = self._default(below)
        for key in plan.required.difference(value):
            del filled[key]
        for key, variable in plan.variables.items():
            if key not in value and variable in self.environment:
                filled[key] = self.environment[variable]
                origins[*path, key] = Origin(f"environment {variable}", key=(*path, key))
        for key, item in value.items():
            if key in plan.specs:
                here = (*path, key)
                if type(item) in CONTAINERS:  # what lies in it has origins of its own
                    origins.pop(here, None)
                filled[key] = self._fill(plan.specs[key], item, here)
        if self.wrong:
            self._leave_out(filled, path)
        return filled

    def _default(self, plan: Plan) -> dict[str, Any]:
        """Return a section that is left out as a whole."""
        self.origins.update(plan.origins)
        return plan.defaults | {key: self._default(below) for key, below in plan.sections.items()}

    def _leave_out(self, filled: dict[str, Any], path: Path) -> None:
        """Take out what is wrong in the section at `path`, and its origins."""
        for key in [key for key in filled if (*path, key) in self.wrong]:
            here = (*path, key)
            del filled[key]
            for at in [at for at in self.origins if at[: len(here)] == here]:
                del self.origins[at]

    def _leaf(self, node: Schema, value: Any, path: Path) -> Any:
        """Take a value as it is written; of a mapping with free keys, each value has an origin of its own."""
        if isinstance(value, dict) and value:
            free = node.get("additionalProperties", {})
            return {key: self._leaf(free, item, (*path, key)) for key, item in value.items()}
        self.origins[path] = self._written(path)
        return _as_integers(node, value)

    def _written(self, path: Path) -> Origin:
        mark = find_mark(self.layer.marks, path)
        if mark is None:
            return default_origin(path)
        text = str(mark.value)
        if names := self.layer.variables.get(path):
            text = f"environment {names}" if mark.value.file == names else f"environment {names} ({text})"
        return Origin(text, "", path)


def _processes(launch: dict[str, Any] | None) -> int:
    """Return how many processes the section `launch` asks for; `auto`, known at the start only, is one."""
    counts = [(launch or {}).get(key) for key in ("nodes", "processes_per_node")]
    return prod(count for count in counts if isinstance(count, int))


def as_text(value: Any) -> Any:
    """Return a value as messages show it: booleans as the config spells them."""
    return str(value).lower() if isinstance(value, bool) else value


def _as_integers(node: Schema, value: Any) -> Any:
    """Return a value with its whole numbers as integers where the schema asks for integers."""
    if isinstance(value, list):
        return [_as_integers(node.get("items", {}), item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole and "integer" in node.get("type", "") else value


class Plan(NamedTuple):
    """What fills in a section: the default of each key, its origin, and its schema.

    What only older versions have is not there. `required` are the keys without a default: they hold their
    places in `defaults`. `sections` are filled in where they are left out. `variables` are those of the
    environment that may replace a default.
    """

    defaults: dict[str, Any]
    origins: dict[Path, Origin]
    specs: dict[str, Schema]
    required: frozenset[str]
    sections: dict[str, Plan]
    variables: dict[str, str]


_plans: dict[tuple[Path, int], Plan] = {}  # by path and identity of the node, which the bundle keeps


def _plan(path: Path, node: Schema) -> Plan:
    """Return what fills in the section at `path`."""
    plan = _plans.get((path, id(node)))
    if plan is None:
        plan = _new_plan(path, node["properties"])
        if len(_plans) < MOST_PLANS:
            _plans[path, id(node)] = plan
    return plan


def _new_plan(path: Path, specs: dict[str, Schema], given: dict[str, Any] | None = None) -> Plan:
    """Return the plan of the section at `path`; `given` is the section itself where it is a default."""
    wanted = {key: (given or {}).get(key, spec.get("default", NOTHING)) for key, spec in specs.items()}
    gone = {key for key, spec in specs.items() if spec.get("deprecated") and key not in (given or {})}
    if given is not None:
        gone |= {key for key, value in wanted.items() if value is NOTHING}
    defaults = {key: value for key, value in wanted.items() if key not in gone}
    nodes = {key: narrow(specs[key], value) for key, value in defaults.items() if isinstance(value, dict)}
    sections = {
        key: _new_plan((*path, key), node["properties"], defaults[key])
        for key, node in nodes.items()
        if "properties" in node
    }
    required = frozenset(key for key, value in defaults.items() if value is NOTHING)
    variables = {key: ENVIRONMENT[*path, key] for key in defaults if (*path, key) in ENVIRONMENT}
    leaves = ((*path, key) for key in defaults if key not in required and key not in sections)
    return Plan(defaults, {at: default_origin(at) for at in leaves}, specs, required, sections, variables)
