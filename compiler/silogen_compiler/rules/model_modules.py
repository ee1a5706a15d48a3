"""The modules of a model by name, and which of them an adapter's arguments take in, as in peft 0.21.

peft walks over the names of all modules, and passes over an entry that meets none of them. A list's entry
means the modules of this name and those that end with a dot and this name; text is a regular expression for
whole names; "all-linear" means the linear layers but the output layer.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from silogen_compiler.rules.model_files import ModelFiles

ALL_LINEAR = "all-linear"
MANY_LAYERS = 128  # for a model whose number of layers is not known
MOST_LAYERS = 1000  # whatever a config.json says
OUTPUT_LAYERS = {"lm_head", "embed_out"}
EMBEDDINGS = {"embed_in", "embed_tokens", "word_embeddings", "wpe", "wte"}

# From the name of a model, in lower case, to its family; the first pattern that occurs counts, so the longer
# ones come first. No family: its modules have other names than those of the shorter pattern below.
FAMILY_NAMES: tuple[tuple[str, str], ...] = (
    (r"vision|-vl|vl-|omni|multimodal|llava|mamba|nemotron|embed", ""),
    (r"distill-llama", "llama"),
    (r"distill-qwen", "qwen2"),
    (r"deepseek-r1-.*qwen3", "qwen3"),
    (r"deepseek-(v3\.2|v[4-9])", ""),
    (r"deepseek-(v3|r1)", "deepseek_v3"),
    (r"deepseek-(coder-)?v2", "deepseek_v2"),
    (r"qwen3(\.|-next|-coder-next)", ""),
    (r"qwen3.*-a\d", "qwen3_moe"),
    (r"qwen.*(-a\d|-moe)", ""),
    (r"qwen3", "qwen3"),
    (r"qwen(1\.5|2)|qwq", "qwen2"),
    (r"\w(?<!code)gemma|gemma-?(3n|[4-9](-|$))", ""),
    (r"gemma-3-(270m|1b)", "gemma3_text"),
    (r"gemma-3", "gemma3"),
    (r"gemma-2-", "gemma2"),
    (r"gemma", "gemma"),
    (r"mixtral", "mixtral"),
    (r"mistral-(small-[34]|medium|large-[34])|ministral-3", ""),
    (r"mistral", "mistral"),
    (r"phi-?(3-small|.*moe)", ""),
    (r"phi-?[34]", "phi3"),
    (r"falcon-(7b|11b|40b|180b|rw)", "falcon"),
    (r"gpt-?2", "gpt2"),
    (r"gpt-neox|pythia", "gpt_neox"),
    (r"olmo-2", "olmo2"),
    (r"granite-3\.\d-[28]b", "granite"),
    (r"llama-?[4-9](-|$)", ""),
    (r"llama|vicuna|smollm2?-", "llama"),
)


class Modules(NamedTuple):
    """The modules that a model has, in order.

    `family` is set where they are those of a family that the model's name suggests. `certain` tells that the
    model has no others.
    """

    names: tuple[str, ...]
    linear: frozenset[str]
    family: str
    certain: bool


@cache
def families() -> dict[str, Any]:
    """Return model_families.json."""
    with open(f"{os.path.dirname(__file__)}/model_families.json", encoding="utf-8") as file:  # noqa: PTH120, PTH123 - pathlib costs start-up time
        table: dict[str, Any] = json.load(file)
    return table


@lru_cache(1024)
def guess_family(name: str) -> str:
    """Return the model type that a model's name suggests, or an empty text."""
    name = name.rstrip("/").rpartition("/")[2].lower()
    return next((family for pattern, family in FAMILY_NAMES if re.search(pattern, name)), "")


def known_modules(model: ModelFiles, name: str, *, peft_type: str, own_code: bool) -> Iterator[Modules]:
    """Yield what is known of the modules, less than all at first: one layer, then all, then the checkpoint.

    `name` is that of a model which is not on disk; `own_code` tells that the model brings its own classes.
    """
    family = "" if own_code else model.model_type if model.folder else guess_family(name)
    known = families()["families"].get(family) if family else None
    if known:
        experts = known["experts"] if peft_type == "LORA" else []
        guessed = "" if model.folder else family
        most = min(model.number("num_hidden_layers", "n_layer") or MANY_LAYERS, MOST_LAYERS)
        for layers in (1, most):
            linear = _expanded(known["linear"], range(layers))
            names = [*linear, *_expanded(known["other"] + experts, range(layers))]
            yield Modules((*names,), frozenset(linear), guessed, certain=bool(model.folder))
    if model.modules:
        linear = linear if known else [*_matrices(model)]
        both = dict.fromkeys([*(names if known else ["lm_head"]), *model.modules])
        yield Modules((*both,), frozenset(linear), "", certain=bool(known) or _keeps_names(model))


def _expanded(patterns: list[str], layers: Iterable[int]) -> list[str]:
    """Return module names with every layer's number in place of `*`."""
    starred = [name for name in patterns if "*" in name]
    return [
        *(name for name in patterns if "*" not in name),
        *(name.replace("*", str(layer)) for layer in layers for name in starred),
    ]


def _matrices(model: ModelFiles) -> Iterator[str]:
    for name, weight in model.weights.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and len(weight.shape) == 2 and leaf_of(module) not in EMBEDDINGS:  # noqa: PLR2004 - rows and columns
            yield module


def _keeps_names(model: ModelFiles) -> bool:
    """Tell whether modules are called as in the checkpoint: no renamings, and no prefix that is left out."""
    without_prefix = any(re.match(r"[^.]+\.\d+\.", name) for name in model.modules)
    return not without_prefix and model.model_type not in families()["renamed"]


def leaf_of(name: str) -> str:
    return name.rpartition(".")[2]


def suffix(entry: str) -> str:
    """Return the regular expression for the names that a list's entry means."""
    return rf"(.*\.)?{re.escape(entry)}"


def ending(entry: str) -> str:
    """Return the one for an entry of `modules_to_save`: any name with this end."""
    return rf".*{re.escape(entry)}"


def saved_whole(entry: str) -> str:
    """Return the one for what gets no adapter because of `modules_to_save`."""
    return rf"(^|.*\.){entry}($|\..*)"


def pattern_key(entry: str) -> str:
    """Return the one for a key of `rank_pattern` or `alpha_pattern`."""
    return rf"(.*\.)?({entry})"


def layer_list(entry: str) -> str:
    """Return the one for an entry of `layers_pattern`; the first number behind that list is the layer's."""
    return rf"(?:^|.*?\.){entry}\.(?P<layer>\d+)\..*"


ANY_LAYER_LIST = r".*?\.[^.]*\.(?P<layer>\d+)\..*"


def meets(pattern: str, names: Iterable[str]) -> bool:
    """Tell whether one of the names is what the regular expression describes."""
    compiled = re.compile(pattern)
    return any(compiled.fullmatch(name) for name in names)


def texts(value: Any) -> list[str]:
    """Return the text in a value that is text, a list or a mapping."""
    found = [value] if isinstance(value, str) else value if isinstance(value, (list, dict)) else []
    return [item for item in found if isinstance(item, str)]


def targeted(kwargs: dict[str, Any], modules: Modules) -> list[str]:
    """Return the modules that get an adapter: peft's check_target_module_exists for each name.

    Neither modules that are excluded nor those that are saved whole, with all below them, get one. Layers are
    chosen among what a list's entry means, not where an entry is a module's whole name.
    """
    wanted = kwargs.get("target_modules")
    found = _wanted(wanted, modules)
    if excluded := kwargs.get("exclude_modules"):
        found = [name for name in found if not _means(excluded, name)]
    for saved in texts(kwargs.get("modules_to_save")):
        found = [name for name in found if not re.match(saved_whole(saved), name)]
    layers = chosen_layers(kwargs)
    if not layers or isinstance(wanted, str):
        return found
    patterns = layer_patterns(kwargs)
    return [name for name in found if name in texts(wanted) or layer_of(name, patterns) in layers]


def all_linear(modules: Modules) -> list[str]:
    return [name for name in modules.names if name in modules.linear and leaf_of(name) not in OUTPUT_LAYERS]


def _wanted(wanted: Any, modules: Modules) -> list[str]:
    if isinstance(wanted, str) and wanted.lower() == ALL_LINEAR:
        return all_linear(modules)
    return [name for name in modules.names if _means(wanted, name)]


def _means(wanted: Any, name: str) -> bool:
    """Tell whether text or a list takes in a module."""
    if isinstance(wanted, str):
        return bool(re.fullmatch(wanted, name))
    return f".{name}".endswith(tuple(f".{entry}" for entry in texts(wanted)))


def chosen_layers(kwargs: dict[str, Any]) -> list[int]:
    chosen = kwargs.get("layers_to_transform")
    chosen = chosen if isinstance(chosen, list) else [chosen]
    return [layer for layer in chosen if isinstance(layer, int)]


def layer_patterns(kwargs: dict[str, Any]) -> list[str]:
    return [layer_list(entry) for entry in texts(kwargs.get("layers_pattern"))] or [ANY_LAYER_LIST]


def layer_of(name: str, patterns: list[str]) -> int | None:
    """Return the number of the layer that a module lies in."""
    found = next((match for match in (re.match(pattern, name) for pattern in patterns) if match), None)
    return int(found["layer"]) if found else None
