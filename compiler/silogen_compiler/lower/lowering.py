"""Stage 6: canonical values become the keyword arguments of the target's classes.

Every value lands in one argument (landings.py), under the target's name for it (spellings.py), or is named in
a diagnostic.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from silogen_compiler.chat_templates import chat_template
from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.lower.adaptations import ADAPTATIONS, hide_secrets
from silogen_compiler.lower.dpo import DPO
from silogen_compiler.lower.landings import (
    ARGS,
    MODEL,
    ONLY_WHEN_SET,
    PEFT,
    QUANTIZATION,
    TOKENIZER,
    landing,
    lands_apart,
)
from silogen_compiler.lower.launch import launch
from silogen_compiler.lower.spellings import SPELLINGS
from silogen_compiler.lower.unused import UNUSED_STEPS
from silogen_compiler.schema import find
from silogen_compiler.values import DEFAULT, Origin, Values

if TYPE_CHECKING:
    from silogen_compiler.load import Path
    from silogen_compiler.targets import Target

API_VERSION = "silogen.resolved/v1"

# Trainer, and the class of its arguments, by method.
TRAINERS = {"sft": ("SFTTrainer", "SFTConfig"), "dpo": ("DPOTrainer", "DPOConfig")}

Tree = dict[str, Any]


class Lowered:
    """A resolved config in the making, without its digest, with origins and findings."""

    def __init__(self, values: Values, target: Target) -> None:
        self.values = values
        self.target = target
        self.resolved = _skeleton(values, target)
        self.origins: dict[Path, Origin] = {}
        self.diagnostics: list[Diagnostic] = []

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Write one value of the resolved config, with its origin."""
        _write(_opened(self.resolved, path), path[-1], value)
        self.origins[path] = origin

    def origin(self, path: Path) -> Origin:
        """Return the origin of the value at `path`, for a mapping that of its first value."""
        return self.origins.get(path) or next((self.origins[at] for at in self._below(path)), DEFAULT)

    def take(self, path: Path) -> tuple[Origin, Path]:
        """Forget the origins of the value at `path`; return the first, and the value's key in the config."""
        places = [path, *self._below(path)]
        taken = {at: self.origins.pop(at) for at in places if at in self.origins}
        at, origin = next(iter(taken.items()), (path, DEFAULT))
        return origin, origin.key[: len(path) - len(at) or None]

    def _below(self, path: Path) -> list[Path]:
        return [at for at in self.origins if len(at) > len(path) and at[: len(path)] == path]

    def kwargs(self, path: Path) -> Tree:
        """Return a set of keyword arguments, `{}` where the config has no such set."""
        node: Any = self.resolved
        for key in path:
            node = (node or {}).get(key, {})
        kwargs: Tree = node
        return kwargs

    def surface(self) -> Tree:
        """Return the arguments that the target's trainer takes, with their defaults."""
        return self.target.classes[self.resolved["trainer"]["args_class"]]


def lower(values: Values, target: Target) -> Lowered:
    """Write the resolved values as the keyword arguments of `target`."""
    lowered = Lowered(values, target)
    _land(lowered)
    for adapt in STEPS:
        adapt(lowered)
    return lowered


def _land(lowered: Lowered) -> None:
    """Put every value where it lands, if it is set and asked for."""
    origins = lowered.values.origins
    landed: dict[Any, Origin] = dict(zip(map(landing, origins), origins.values(), strict=True))
    landed.pop(None, None)
    lowered.origins = landed
    _land_section(lowered, (), lowered.values.data)


def _land_section(lowered: Lowered, path: Path, section: Tree) -> None:
    """Put the values of a section side by side, except those with a landing of their own."""
    together = section.copy()
    apart = [(key, together.pop(key)) for key in lands_apart(path) if key in together]
    place = landing((*path, next(iter(together)))) if together else None
    if place:
        _land_together(lowered, place[:-1], together)
    for key, value in apart:
        _land_apart(lowered, (*path, key), value)


def _land_together(lowered: Lowered, place: Path, values: Tree) -> None:
    for key in ONLY_WHEN_SET & values.keys():
        if values[key] is None:
            del values[key]
            lowered.origins.pop((*place, key), None)
    _opened(lowered.resolved, (*place, "")).update(values)


def _land_apart(lowered: Lowered, path: Path, value: Any) -> None:
    if path == ("quant_conf",) and not lowered.values.bit_widths():
        for key in value:
            lowered.origins.pop((*QUANTIZATION, key), None)
    elif isinstance(value, dict):
        _land_section(lowered, path, value)
    elif place := landing(path):
        _opened(lowered.resolved, place)[place[-1]] = value


def _skeleton(values: Values, target: Target) -> Tree:
    """Return the sections of a resolved config in the order in which people read them."""
    processes = values.world_size
    trainer, args_class = TRAINERS[values["method"]]
    return {
        "apiVersion": API_VERSION,
        "method": values["method"],
        "target": {"name": target.name, **target.packages},
        "launch": {"world_size": processes, "strategy": _strategy(values)},
        "tokenizer": {
            "from_pretrained": {},
            "chat_template": chat_template(values["data_conf.chat_template_name"]),
        },
        "model": {"from_pretrained": {}},
        "quantization": None,
        "peft": None,
        "data": {},
        "trainer": {"class": trainer, "args_class": args_class, "args": {}, "environment": {}},
        "run": {},
        "tracking": None,
    }


def _strategy(values: Values) -> str:
    """Return how processes share the work: by what is turned on, else each with a whole model."""
    named = [name for name in ("deepspeed", "fsdp") if values[f"training_args.{name}"]]
    return next(iter(named), "single" if values.world_size == 1 else "ddp")


def _at(node: Any, path: Path) -> Any:
    for key in path:
        node = node[key]
    return node


def _opened(node: Any, path: Path) -> Any:
    """Return what holds the value at `path`: a list or a mapping, new where there is none yet."""
    for key, following in pairwise(path):
        below = node.get(key) if isinstance(node, dict) else next(iter(node[key:]), None)
        if below is None:
            below = [] if isinstance(following, int) else {}
            _write(node, key, below)
        node = below
    return node


def _write(node: Any, key: str | int, value: Any) -> None:
    """Write into a mapping, or at the end of a list. A mapping joins the one that is there."""
    if isinstance(node, list):
        node.append(value)
    elif isinstance(value, dict) and isinstance(node.get(key), dict):
        node[key] = {**node[key], **value}
    else:
        node[key] = value


def surfaces(lowered: Lowered) -> None:
    """Take out what the target's classes do not know, and name it where a person wrote it."""
    adapter = (lowered.resolved["peft"] or {}).get("class", "")
    if adapter and adapter not in lowered.target.classes:
        message = f"peft {lowered.target.packages['peft']} has no {adapter}"
        span = lowered.values.span("peft_conf.peft_type")
        label = f"choose another adapter, or a newer target than {lowered.target.name}"
        lowered.diagnostics.append(Diagnostic("SG501", message, span, label))
        adapter = ""
    names = {
        MODEL: "AutoModelForCausalLM",
        TOKENIZER: "AutoTokenizer",
        ARGS: lowered.resolved["trainer"]["args_class"],
        QUANTIZATION: "BitsAndBytesConfig",
        **({PEFT: adapter} if adapter else {}),
    }
    for path, name in names.items():
        _fit(lowered, path, name)


def _fit(lowered: Lowered, path: Path, name: str) -> None:
    """Fit one set of keyword arguments to its class."""
    kwargs, surface = lowered.kwargs(path), lowered.target.classes[name]
    choices = lowered.target.choices.get(name, {})
    wrong = [key for key in choices if key in kwargs and kwargs[key] not in choices[key]]
    if not wrong and kwargs.keys() <= surface.keys():
        return
    for key in [*kwargs]:
        if key not in surface:
            _say(lowered, (*path, key), f"{name} of {lowered.target.name} has no `{key}`", kwargs.pop(key))
        elif key in wrong:
            message = f"`{key}` of {name} of {lowered.target.name} cannot be `{kwargs[key]}`"
            _say(lowered, (*path, key), message)


def _say(lowered: Lowered, path: Path, message: str, value: Any = ...) -> None:
    """Name an argument that the target lacks, unless it says nothing but what the target does anyway."""
    origin, source = lowered.take(path)
    is_default = origin.text == DEFAULT.text
    if not source or (value is not ... and (is_default or _is_default(lowered, source, value))):
        return
    span = lowered.values.span(".".join(map(str, source)))
    lowered.diagnostics.append(Diagnostic("SG501", message, span, "remove it, or compile for a newer target"))


def _is_default(lowered: Lowered, source: Path, value: Any) -> bool:
    return bool(find(source, lowered.values.data).get("default", ...) == value)


def complete(lowered: Lowered) -> None:
    """Write out the trainer's other arguments too, so that no default of a library version decides."""
    args, surface = lowered.kwargs(ARGS), lowered.surface()
    origin = Origin(f"{lowered.resolved['trainer']['args_class']}'s default")
    missing = surface.keys() - args.keys()
    whole = {**surface, **args}  # in the order of the surface
    if "resume_from_checkpoint" in missing:
        del whole["resume_from_checkpoint"]
    lowered.origins |= {(*ARGS, key): origin for key in missing & whole.keys()}
    lowered.resolved["trainer"]["args"] = whole


def sort(lowered: Lowered) -> None:
    """Sort each set of keyword arguments, whose order has no meaning; those of the trainer are sorted."""
    for section, name in (MODEL, TOKENIZER, QUANTIZATION, PEFT):
        node = lowered.resolved[section]
        if node and name in node:
            node[name] = {key: node[name][key] for key in sorted(node[name])}


STEPS = (launch, *ADAPTATIONS, *SPELLINGS, *DPO, *UNUSED_STEPS, surfaces, complete, sort, hide_secrets)
