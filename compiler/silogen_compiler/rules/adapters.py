"""Rules for model.py: whether an adapter's arguments fit the modules of the model, and their sizes."""

from __future__ import annotations

import re
from math import gcd
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, Findings, Span
from silogen_compiler.load import key_span, value_span
from silogen_compiler.rules import model_modules as named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from silogen_compiler.load import Path
    from silogen_compiler.rules.model_files import ModelFiles
    from silogen_compiler.rules.model_modules import Modules
    from silogen_compiler.values import Values

Kwargs = dict[str, Any]
Shape = dict[str, int]

KWARGS = "peft_conf.peft_kwargs"

# How the entries of an argument stand for modules. Those of `layers_pattern` stand for lists of layers.
FORMS: dict[str, Callable[[str], str]] = {
    "target_modules": named.suffix,
    "exclude_modules": named.suffix,
    "modules_to_save": named.ending,
    "trainable_token_indices": named.ending,
    "layers_pattern": named.layer_list,
    "rank_pattern": named.pattern_key,
    "alpha_pattern": named.pattern_key,
}
# As text, these hold a regular expression.
EITHER = {"target_modules", "exclude_modules"}
# What peft makes a regular expression of.
REGULAR: dict[str, Callable[[str], str]] = {
    "modules_to_save": named.saved_whole,
    "layers_pattern": named.layer_list,
    "rank_pattern": named.pattern_key,
    "alpha_pattern": named.pattern_key,
}
AMONG_TARGETS = ("rank_pattern", "alpha_pattern")

# Adapters whose target_modules mean something else.
OTHER_MATCHING = {"ADAPTION_PROMPT"}
# A label lists no more names than these.
MOST_LISTED = 8


class Entry(NamedTuple):
    """One name that an argument holds, with its place and the regular expression that it stands for.

    `regular` is what peft compiles, or empty.
    """

    key: str
    text: str
    path: Path
    pattern: str
    regular: str


class Block(NamedTuple):
    """A size in which an adapter cuts up the inputs ("in") or outputs ("out") of its layers; 0 is none."""

    peft_type: str
    key: str
    default: int
    sides: tuple[str, ...]
    code: str = "SG323"


BLOCKS = (
    Block("BOFT", "boft_block_size", 4, ("in",)),
    Block("BOFT", "boft_block_num", 0, ("in",)),
    Block("OFT", "oft_block_size", 32, ("in",), "SG324"),
    Block("OFT", "r", 0, ("in",), "SG324"),
    Block("VBLORA", "vector_length", 256, ("in", "out")),
    Block("ROAD", "group_size", 64, ("out",)),
    Block("C3A", "block_size", 256, ("in", "out")),
    Block("GRALORA", "gralora_k", 2, ("in", "out")),
)
SIDES = {"in": "inputs", "out": "outputs"}
TRANSPOSED = {"gpt2", "imagegpt", "openai-gpt"}  # their layers keep weights as inputs × outputs


def valid_patterns(values: Values, model: ModelFiles) -> Findings:
    del model
    for entry in _entries(values):
        try:
            re.compile(entry.regular)
        except (re.error, OverflowError, RecursionError) as error:
            message = f"`{entry.text}` in `{entry.key}` is not a regular expression"
            yield Diagnostic("SG320", message, _span(values, entry), str(error))


def module_names(values: Values, model: ModelFiles) -> Findings:
    """Name what an adapter's arguments ask for and the model does not have.

    What is found among some of the modules must be found among all of them.
    """
    found: list[Diagnostic] = []
    for modules in _known_modules(values, model):
        found = [*_missing(values, modules)]
        if not found:
            return
    yield from found


def block_sizes(values: Values, model: ModelFiles) -> Findings:
    kind, kwargs = values["peft_conf.peft_type"], _kwargs(values)
    for block in BLOCKS:
        size = kwargs.get(block.key, block.default) if kind == block.peft_type else 0
        if isinstance(size, int) and size > 0:
            yield from _indivisible(values, block, size, [*_shapes(values, model)])


def _kwargs(values: Values) -> Kwargs:
    """Return the arguments of an adapter that chooses modules by name, `{}` for any other."""
    if values["peft_conf.peft_type"] in OTHER_MATCHING:
        return {}
    kwargs: Kwargs = values["peft_conf"].get("peft_kwargs", {})
    return kwargs


def _known_modules(values: Values, model: ModelFiles) -> Iterator[Modules]:
    """Yield what is known of the modules, more each time.

    Yields nothing where no argument asks for modules, or where loading may change their names.
    """
    args, kwargs = values["run_conf.model_args"], _kwargs(values)
    changed = args.get("key_mapping") or args.get("gguf_file") or kwargs.get("layer_replication")
    asked = any(kwargs.get(key) not in (None, {}) for key in (*FORMS, "layers_to_transform"))
    if changed or not asked or [*valid_patterns(values, model)]:
        return
    own_code = bool(args["trust_remote_code"]) and "auto_map" in model.config
    kind = values["peft_conf.peft_type"]
    yield from named.known_modules(model, values["run_conf.model"], peft_type=kind, own_code=own_code)


def _entries(values: Values) -> Iterator[Entry]:
    """Yield the names in the adapter's arguments, but not the word "all-linear"."""
    kwargs = _kwargs(values)
    for key, form in FORMS.items():
        if not kwargs.get(key):
            continue
        value, path = kwargs[key], (*KWARGS.split("."), key)
        if isinstance(value, str) and key in EITHER:
            if value.lower() != named.ALL_LINEAR:
                yield Entry(key, value, path, value, value)
            continue
        for place, text in _places(value):
            yield Entry(key, text, (*path, *place), form(text), REGULAR[key](text) if key in REGULAR else "")


def _span(values: Values, entry: Entry) -> Span | None:
    """Return the place of an entry: of the text itself, of a list's item, or of a mapping's key."""
    is_text = len(entry.path) == len(KWARGS.split(".")) + 1
    return value_span(values.layer, entry.path) if is_text else key_span(values.layer, entry.path)


def _places(value: Any) -> Iterator[tuple[Path, str]]:
    """Yield text, the text in a list, or the keys of a mapping, each with its place below the value."""
    if isinstance(value, str):
        yield (), value
    elif isinstance(value, dict):
        yield from (((key,), key) for key in value)
    elif isinstance(value, list):
        yield from (((at,), item) for at, item in enumerate(value) if isinstance(item, str))


def _missing(values: Values, modules: Modules) -> Findings:
    kwargs = _kwargs(values)
    wanted, no_targets_needed = kwargs.get("target_modules"), kwargs.get("target_parameters")
    targets = [*modules.names] if wanted is None else named.targeted(kwargs, modules)
    found = [*_missing_entries(values, modules, targets), *_missing_layers(values, modules)]
    yield from found
    none_left = not targets and not no_targets_needed and modules.certain
    if none_left and all(finding.code != "SG320" for finding in found):
        message = "no module is left for the adapter"
        label = "all of it lies in other layers, is excluded, or is saved whole" if wanted else "name some"
        yield Diagnostic("SG320", message, values.span(f"{KWARGS}.target_modules"), label)


def _missing_entries(values: Values, modules: Modules, targets: list[str]) -> Findings:
    """Name the entries that stand for no module: for a list of targets an error only where none does."""
    kwargs, entries = _kwargs(values), [*_entries(values)]
    if not named.chosen_layers(kwargs):
        entries = [entry for entry in entries if entry.key != "layers_pattern"]
    met = [_is_met(entry, modules, targets) for entry in entries]
    has_target = any(
        is_met and entry.key == "target_modules" for entry, is_met in zip(entries, met, strict=True)
    )
    passed_over = {"target_modules"} if has_target or kwargs.get("target_parameters") else set()
    for entry, is_met in zip(entries, met, strict=True):
        if not is_met:
            code = "SG320" if modules.certain and entry.key not in passed_over else "SG321"
            yield Diagnostic(
                code, _message(entry, modules), _span(values, entry), _label(entry, modules, targets)
            )


def _is_met(entry: Entry, modules: Modules, targets: list[str]) -> bool:
    """Tell whether an entry stands for a module. Without targets, patterns for them have nothing to fit."""
    if entry.key in AMONG_TARGETS:
        return not targets or named.meets(entry.pattern, targets)
    return named.meets(entry.pattern, modules.names)


def _is_untargeted(entry: Entry, modules: Modules) -> bool:
    """Tell whether a pattern that meets no target meets other modules."""
    return entry.key in AMONG_TARGETS and named.meets(entry.pattern, modules.names)


def _message(entry: Entry, modules: Modules) -> str:
    if _is_untargeted(entry, modules):
        return f"`{entry.text}` gets no adapter, so its place in `{entry.key}` has no effect"
    owner = f"{modules.family} models have" if modules.family else "the model has"
    if entry.key == "layers_pattern":
        return f"{owner} no list of layers `{entry.text}`"
    return f"{owner} no module `{entry.text}`"


def _label(entry: Entry, modules: Modules, targets: list[str]) -> str:
    if _is_untargeted(entry, modules):
        return "add it to target_modules, or remove it here"
    near = _near(entry.text, targets if entry.key in AMONG_TARGETS and targets else modules.names)
    if entry.key in EITHER and entry.regular:
        instead = f"[{near}], or `.*{near}`" if near else "a list of names"
        return f"text is a regular expression for whole names; write {instead}"
    if near:
        return f"did you mean `{near}`?"
    linear = dict.fromkeys(named.leaf_of(name) for name in named.all_linear(modules))
    return f"its linear layers: {', '.join(linear)}" if 0 < len(linear) <= MOST_LISTED else "remove it"


def _near(text: str, names: list[str] | tuple[str, ...]) -> str:
    """Return the nearest end of a module's name with as many parts as `text` has."""
    from difflib import get_close_matches  # noqa: PLC0415 - start-up time

    parts = text.count(".") + 1
    ends = dict.fromkeys(".".join(name.split(".")[-parts:]) for name in names)
    longer = next((end for end in ends if text and end.startswith(text)), "")
    return longer or next(iter(get_close_matches(text, ends, 1, 0.7)), "")


def _missing_layers(values: Values, modules: Modules) -> Findings:
    kwargs = _kwargs(values)
    chosen = named.chosen_layers(kwargs)
    if not chosen or not modules.certain:
        return
    patterns = named.layer_patterns(kwargs)
    layers = {named.layer_of(name, patterns) for name in modules.names} - {None}
    for place, layer in enumerate(chosen):
        if layers and layer not in layers:
            span = key_span(values.layer, (*KWARGS.split("."), "layers_to_transform", place))
            yield Diagnostic(
                "SG320", f"the model has no layer {layer}", span, f"its layers are {_range(layers)}"
            )


def _range(layers: set[Any]) -> str:
    return f"{min(layers)} to {max(layers)}"


def _shapes(values: Values, model: ModelFiles) -> Iterator[tuple[str, Shape]]:
    """Yield the linear layers that get an adapter, each with the numbers of its inputs and outputs."""
    *_, modules = None, *_known_modules(values, model)
    if modules is None or model.quantization:
        return
    for name in named.targeted(_kwargs(values), modules):
        weight = model.weights.get(f"{name}.weight")
        if weight and name in modules.linear and len(weight.shape) == 2:  # noqa: PLR2004 - rows and columns
            ins, outs = weight.shape if model.model_type in TRANSPOSED else reversed(weight.shape)
            yield name, {"in": ins, "out": outs}


def _indivisible(values: Values, block: Block, size: int, shapes: list[tuple[str, Shape]]) -> Findings:
    common = gcd(*(shape[side] for _, shape in shapes for side in block.sides))
    for name, shape in shapes:
        for side in block.sides:
            if shape[side] % size:
                message = f"`{block.key}` {size} does not divide the {shape[side]} {SIDES[side]} of `{name}`"
                label = f"write a divisor of {common}"
                yield Diagnostic(block.code, message, values.span(f"{KWARGS}.{block.key}"), label)
                return
