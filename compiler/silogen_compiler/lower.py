"""Stage 6: canonical values become the keyword arguments of the target's classes.

Every value lands in one argument (landings.py), under the target's name for it (spellings.py), or is named in
a diagnostic.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from silogen_compiler.chat_templates import chat_template
from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.landings import (
    ARGS,
    MODEL,
    NO_EFFECT,
    ONLY_WHEN_SET,
    REPOSITORY,
    SHARED,
    TOKENIZER,
    landing,
)
from silogen_compiler.launch import launch
from silogen_compiler.rules import SECRETS, is_secret, without_credentials
from silogen_compiler.schema import find, title
from silogen_compiler.spellings import SPELLINGS
from silogen_compiler.values import DEFAULT, Origin, Values

if TYPE_CHECKING:
    from silogen_compiler.load import Path
    from silogen_compiler.targets import Target

API_VERSION = "silogen.resolved/v1"

# Trainer, and the class of its arguments, by method.
TRAINERS = {"sft": ("SFTTrainer", "SFTConfig"), "dpo": ("DPOTrainer", "DPOConfig")}

QUANTIZATION = ("quantization", "kwargs")
PEFT = ("peft", "kwargs")

Tree = dict[str, Any]


class Lowered:
    """A resolved config in the making, without its digest, with origins and findings.

    `sources` maps where a value landed to where it was in the config.
    """

    def __init__(self, values: Values, target: Target) -> None:
        self.values = values
        self.target = target
        self.resolved = _skeleton(values, target)
        self.origins: dict[Path, Origin] = {}
        self.sources: dict[Path, Path] = {}
        self.diagnostics: list[Diagnostic] = []

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Write one value of the resolved config, with its origin."""
        _put(self.resolved, path, value)
        self.origins[path] = origin

    def origin(self, path: Path) -> Origin:
        """Return the origin of the value at `path`, for a mapping that of its first value."""
        return self.origins.get(path) or next((self.origins[at] for at in self._below(path)), DEFAULT)

    def take(self, path: Path) -> tuple[Origin, Path | None]:
        """Forget the origins of the value at `path`; return the first, and where the value was written."""
        origin, places = self.origin(path), [path, *self._below(path)]
        for at in places:
            self.origins.pop(at, None)
        first = next((at for at in places if at in self.sources), None)
        return origin, first and self.sources[first][: len(path) - len(first) or None]

    def _below(self, path: Path) -> list[Path]:
        return [at for at in self.origins if len(at) > len(path) and at[: len(path)] == path]

    def kwargs(self, path: Path) -> Tree:
        """Return a set of keyword arguments, `{}` where the config has no such set."""
        node: Any = self.resolved
        for key in path:
            node = (node or {}).get(key, {})
        kwargs: Tree = node
        return kwargs


def lower(values: Values, target: Target) -> Lowered:
    """Write the resolved values as the keyword arguments of `target`."""
    lowered = Lowered(values, target)
    for path, origin in values.origins.items():
        place = landing(path)
        if place is not None and not _is_left_out(path, values):
            lowered.put(place, _at(values.data, path), origin)
            lowered.sources[place] = path
    for adapt in ADAPTATIONS:
        adapt(lowered)
    return lowered


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


def _is_left_out(path: Path, values: Values) -> bool:
    """Tell whether a value has no argument to land in: no effect today, not set, or not asked for."""
    key, value = ".".join(map(str, path)), _at(values.data, path)
    no_section = path[0] == "quant_conf" and not values.bit_widths()
    not_set = value is None and (path[-1] in ONLY_WHEN_SET or path == ("training_args", "logging_dir"))
    return key in NO_EFFECT or no_section or not_set


def _at(node: Any, path: Path) -> Any:
    for key in path:
        node = node[key]
    return node


def _put(node: Any, path: Path, value: Any) -> None:
    """Write `value` at `path`, with a list or a mapping for each part of the path that is not there yet."""
    for key, following in pairwise(path):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(key, int):
            if key == len(node):
                node.append(empty)
        elif node.get(key) is None:
            node[key] = empty
        node = node[key]
    if isinstance(node, list):
        node.append(value)
    elif isinstance(value, dict) and isinstance(node.get(path[-1]), dict):
        node[path[-1]] = {**node[path[-1]], **value}
    else:
        node[path[-1]] = value


def no_effect(lowered: Lowered) -> None:
    """Name what a person wrote and the target has no use for."""
    values, target = lowered.values, lowered.target.name
    for key, (right, why) in NO_EFFECT.items():
        if values[key] != right:
            message = f"`{key}` has no effect in {target}"
            lowered.diagnostics.append(Diagnostic("SG502", message, values.span(key), why))


def tokenizer(lowered: Lowered) -> None:
    """Load the tokenizer from the model's place, unless it has its own, with the model's access arguments."""
    own = lowered.values["run_conf.tokenizer"]
    for key in SHARED if own else (*SHARED, *REPOSITORY, "pretrained_model_name_or_path"):
        lowered.put((*TOKENIZER, key), lowered.kwargs(MODEL)[key], lowered.origin((*MODEL, key)))


def texts(lowered: Lowered) -> None:
    """Write what the libraries want as text or number where the config may hold another type."""
    for path in (MODEL, TOKENIZER):
        kwargs = lowered.kwargs(path)
        kwargs.update({key: "" for key in kwargs if key == "subfolder" and kwargs[key] is None})
    lowered.kwargs(MODEL)["offload_buffers"] = bool(lowered.kwargs(MODEL)["offload_buffers"])
    if quantization := lowered.kwargs(QUANTIZATION):
        quantization["llm_int8_threshold"] = float(quantization["llm_int8_threshold"])


def classes(lowered: Lowered) -> None:
    """Name the classes that the arguments of adapter and quantization belong to."""
    values, resolved = lowered.values, lowered.resolved
    if "peft_kwargs" in values["peft_conf"]:
        definition = title(find(("peft_conf",), values.data))
        resolved["peft"] = {"class": definition.replace("PeftConfig", "Config"), **resolved["peft"]}
    if values.bit_widths():
        resolved["quantization"] = {"class": "BitsAndBytesConfig", **resolved["quantization"]}


def sft(lowered: Lowered) -> None:
    """Lower what method sft alone has: silogen prepares the data, so the trainer need not."""
    values = lowered.values
    if values["method"] != "sft":
        return
    data = lowered.resolved["data"]
    data["loss_on"] = "assistant" if values["sft_args.train_on_completions_only"] else "all"
    lowered.put((*ARGS, "max_length"), data["max_length"], values.origin("sft_args.max_seq_length"))
    prepared = Origin("silogen prepares the data")
    lowered.put((*ARGS, "dataset_kwargs"), {"skip_prepare_dataset": True}, prepared)


def dpo(lowered: Lowered) -> None:
    """Lower what method dpo alone has."""
    if lowered.values["method"] == "dpo":
        lowered.put(("run", "save_name_if_new_basemodel"), None, Origin("method dpo adds no tokens"))
        path = (*ARGS, "max_length")
        lowered.put(("data", "max_length"), lowered.kwargs(ARGS)["max_length"], lowered.origins[path])


def run_name(lowered: Lowered) -> None:
    """Take the run's name from the tracking section where that has one."""
    values = lowered.values
    tracking, own = values["tracking"], values["training_args.run_name"]
    if tracking and tracking["run_name"]:
        lowered.put((*ARGS, "run_name"), tracking["run_name"], values.origin("tracking.run_name"))
        if own not in (None, tracking["run_name"]):
            message = "`training_args.run_name` has no effect beside `tracking.run_name`"
            span = values.span("training_args.run_name")
            lowered.diagnostics.append(Diagnostic("SG502", message, span, "remove it"))


def spellings(lowered: Lowered) -> None:
    """Write each argument as the target spells it."""
    for spell in SPELLINGS:
        spell(lowered)


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
    for key in list(kwargs):
        if key not in surface:
            _say(lowered, (*path, key), f"{name} of {lowered.target.name} has no `{key}`", kwargs.pop(key))
        elif kwargs[key] not in choices.get(key, [kwargs[key]]):
            _say(
                lowered, (*path, key), f"`{key}` of {name} of {lowered.target.name} cannot be `{kwargs[key]}`"
            )


def _say(lowered: Lowered, path: Path, message: str, value: Any = ...) -> None:
    """Name an argument that the target lacks, unless it says nothing but what the target does anyway."""
    origin, source = lowered.take(path)
    if source is None or (value is not ... and (origin == DEFAULT or _is_default(lowered, source, value))):
        return
    span = lowered.values.span(".".join(map(str, source)))
    lowered.diagnostics.append(Diagnostic("SG501", message, span, "remove it, or compile for a newer target"))


def _is_default(lowered: Lowered, source: Path, value: Any) -> bool:
    return bool(find(source, lowered.values.data).get("default", ...) == value)


def complete(lowered: Lowered) -> None:
    """Write out the trainer's other arguments too, so that no default of a library version decides."""
    name = lowered.resolved["trainer"]["args_class"]
    args = lowered.kwargs(ARGS)
    for key, default in lowered.target.classes[name].items():
        if key not in args and key != "resume_from_checkpoint":
            lowered.put((*ARGS, key), default, Origin(f"{name}'s default"))


def sort(lowered: Lowered) -> None:
    """Sort each set of keyword arguments, whose order has no meaning."""
    for *section, name in (MODEL, TOKENIZER, QUANTIZATION, PEFT, ARGS):
        node = lowered.kwargs(tuple(section))
        if name in (node or {}):
            node[name] = dict(sorted(node[name].items()))


def hide_secrets(lowered: Lowered) -> None:
    """Leave a reference to an environment variable where a secret stood."""
    for key, variable in SECRETS.items():
        place = landing(tuple(key.split(".")))
        assert place is not None
        if is_secret(lowered.values[key]):
            _put(lowered.resolved, place, f"${{env:{variable}}}")
    lowered.kwargs(TOKENIZER)["token"] = lowered.kwargs(MODEL)["token"]
    if tracking := lowered.resolved["tracking"]:
        tracking["mlflow_server_uri"] = without_credentials(tracking["mlflow_server_uri"])


ADAPTATIONS = (
    launch,
    no_effect,
    tokenizer,
    texts,
    classes,
    sft,
    dpo,
    run_name,
    spellings,
    surfaces,
    complete,
    sort,
    hide_secrets,
)
