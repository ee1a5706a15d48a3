"""Stage 6: canonical values become the keyword arguments of the target's classes.

LANDINGS says where each value lands. Every value lands in one argument, or is named in a diagnostic.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.chat_templates import chat_template
from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.resolve import DEFAULT, Origin, Values
from silogen_compiler.rules import SECRETS, is_secret, without_credentials
from silogen_compiler.schema import find, title

if TYPE_CHECKING:
    from silogen_compiler.load import Path
    from silogen_compiler.targets import Target

API_VERSION = "silogen.resolved/v1"

MODEL = ("model", "from_pretrained")
TOKENIZER = ("tokenizer", "from_pretrained")
ARGS = ("trainer", "args")

# From a canonical path to a resolved path, and what lies below it moves along; the longest match counts. None
# marks a value that only chooses a class or a branch.
LANDINGS: dict[Path, Path | None] = {
    ("apiVersion",): None,
    ("method",): ("method",),
    ("data_conf", "training_data"): ("data", "train"),
    ("data_conf", "training_data", "data_type"): ("data", "data_type"),
    ("data_conf", "validation_data"): ("data", "validation"),
    ("data_conf", "validation_data", "data_type"): None,
    ("data_conf", "chat_template_name"): ("tokenizer", "chat_template", "name"),
    ("data_conf", "padding_side"): ("tokenizer", "padding_side"),
    ("data_conf", "missing_pad_token_strategy"): ("tokenizer", "missing_pad_token_strategy"),
    ("training_args",): ARGS,
    ("training_args", "logging_dir"): ("trainer", "environment", "TENSORBOARD_LOGGING_DIR"),
    ("batchsize_conf",): None,  # lands as the three sizes that batch_sizes works out
    ("peft_conf", "peft_type"): None,
    ("peft_conf", "task_type"): ("peft", "kwargs", "task_type"),
    ("peft_conf", "peft_kwargs"): ("peft", "kwargs"),
    ("peft_conf", "name_or_path"): ("peft", "pretrained"),
    ("quant_conf",): ("quantization", "kwargs"),
    ("quant_conf", "quantization_type"): None,
    ("run_conf",): ("run",),
    ("run_conf", "model"): (*MODEL, "pretrained_model_name_or_path"),
    ("run_conf", "model_args"): MODEL,
    ("run_conf", "model_args", "torch_dtype"): None,  # lands as dtype
    ("run_conf", "tokenizer"): (*TOKENIZER, "pretrained_model_name_or_path"),
    ("sft_args", "max_seq_length"): ("data", "max_length"),
    ("sft_args", "length_handling"): ("data", "length_handling"),
    ("sft_args", "save_name_if_new_basemodel"): ("run", "save_name_if_new_basemodel"),
    ("sft_args", "train_on_completions_only"): ("data", "loss_on"),
    ("overrides",): None,  # lands in the learning rate
    ("tracking",): ("tracking",),
}

# Arguments of from_pretrained that the tokenizer takes as well.
SHARED = ("cache_dir", "force_download", "local_files_only", "proxies", "trust_remote_code", "token")
# Those that say where in the model's repository to look: for a tokenizer that comes with the model.
REPOSITORY = ("revision", "code_revision", "subfolder")

# Values that today's libraries take and do nothing with, with the value that is right all the same.
NO_EFFECT: dict[str, tuple[Any, str]] = {
    "run_conf.model_args.low_cpu_mem_usage": (False, "weights are always loaded without a second copy"),
    "run_conf.model_args.offload_state_dict": (None, "the library decides by itself"),
    "run_conf.model_args.resume_download": (False, "downloads always resume"),
    "run_conf.use_fast_tokenizer": (True, "transformers 5 has only fast tokenizers for most models"),
    "training_args.resume_from_checkpoint": (None, "set `run_conf.resume_from_checkpoint`"),
}

# Arguments that the target's from_pretrained reads as set when they are there, even with null.
ONLY_WHEN_SET = {
    "adapter_kwargs",
    "experts_implementation",
    "gguf_file",
    "key_mapping",
    "tp_plan",
    "tp_size",
    "use_kernels",
}

# Whose arguments lie where.
SURFACES: dict[Path, str] = {
    MODEL: "AutoModelForCausalLM",
    TOKENIZER: "AutoTokenizer",
    ARGS: "SFTConfig",
    ("quantization", "kwargs"): "BitsAndBytesConfig",
    ("peft", "kwargs"): "LoraConfig",
}

Tree = dict[str, Any]


class Lowered(NamedTuple):
    """A resolved config without its digest, the origins of its values, and the findings on the way."""

    resolved: Tree
    origins: dict[Path, Origin]
    diagnostics: list[Diagnostic]


def lower(values: Values, target: Target) -> Lowered:
    """Write the resolved values as the keyword arguments of `target`."""
    resolved = _skeleton(values, target)
    origins: dict[Path, Origin] = {}
    found = [*_no_effect(values, target)]
    for path, origin in values.origins.items():
        landing = _landing(path)
        if landing is not None and not _is_left_out(path, values):
            _put(resolved, landing, _at(values.data, path))
            origins[landing] = origin
    for adapt in ADAPTATIONS:
        adapt(values, target, resolved, origins)
    found += _not_taken(values, target, resolved, origins)
    for path in SURFACES:
        _sort(resolved, path)
    return Lowered(resolved, origins, found)


def _skeleton(values: Values, target: Target) -> Tree:
    """Return the sections of a resolved config in the order in which people read them."""
    processes = values.world_size
    return {
        "apiVersion": API_VERSION,
        "method": values["method"],
        "target": {"name": target.name, **target.packages},
        "launch": {"world_size": processes, "strategy": "single" if processes == 1 else "ddp"},
        "tokenizer": {
            "from_pretrained": {},
            "chat_template": chat_template(values["data_conf.chat_template_name"]),
        },
        "model": {"from_pretrained": {}},
        "quantization": None,
        "peft": None,
        "data": {},
        "trainer": {"class": "SFTTrainer", "args_class": "SFTConfig", "args": {}, "environment": {}},
        "run": {},
        "tracking": None,
    }


def _landing(path: Path) -> Path | None:
    """Return where the canonical value at `path` lands, or None where it only chooses."""
    for length in range(len(path), 0, -1):
        if path[:length] in LANDINGS:
            landing = LANDINGS[path[:length]]
            return None if landing is None else landing + path[length:]
    raise AssertionError(f"{path} has no landing")


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


def _sort(resolved: Any, path: Path) -> None:
    """Sort a set of keyword arguments, whose order has no meaning."""
    for key in path[:-1]:
        resolved = resolved[key] or {}
    if path[-1] in resolved:
        resolved[path[-1]] = dict(sorted(resolved[path[-1]].items()))


def _no_effect(values: Values, target: Target) -> list[Diagnostic]:
    """Name what a person wrote and the target has no use for."""
    return [
        Diagnostic("SG502", f"`{key}` has no effect in {target.name}", values.span(key), why)
        for key, (right, why) in NO_EFFECT.items()
        if values[key] != right
    ]


def _not_taken(
    values: Values, target: Target, resolved: Tree, origins: dict[Path, Origin]
) -> list[Diagnostic]:
    """Take out what the target's classes do not know, and name it where a person wrote it."""
    del values
    found = []
    for path, name in SURFACES.items():
        kwargs = _kwargs(resolved, path)
        unknown = (
            [key for key in kwargs if key not in target.classes[name]] if _has_surface(resolved, path) else []
        )
        for key in unknown:
            del kwargs[key]
            origin = origins.pop((*path, key), DEFAULT)
            if origin != DEFAULT:
                found.append(
                    Diagnostic("SG501", f"{name} of {target.name} does not take `{key}` ({origin.text})")
                )
    return found


def _kwargs(resolved: Any, path: Path) -> Tree:
    for key in path:
        resolved = (resolved or {}).get(key, {})
    kwargs: Tree = resolved
    return kwargs


def _has_surface(resolved: Tree, path: Path) -> bool:
    return path[0] != "peft" or (resolved["peft"] or {}).get("class") == "LoraConfig"


def _tokenizer(values: Values, target: Target, resolved: Tree, origins: dict[Path, Origin]) -> None:
    """Load the tokenizer from the model's place, unless it has its own, with the model's access arguments."""
    del target
    own = values["run_conf.tokenizer"]
    shared = SHARED if own else (*SHARED, *REPOSITORY, "pretrained_model_name_or_path")
    for key in shared:
        resolved["tokenizer"]["from_pretrained"][key] = resolved["model"]["from_pretrained"][key]
        origins[*TOKENIZER, key] = origins[*MODEL, key]


def _texts(values: Values, target: Target, resolved: Tree, origins: dict[Path, Origin]) -> None:
    """Write what the libraries want as text or number where the config may hold null or a switch."""
    del target, origins
    resolved["data"]["loss_on"] = "assistant" if values["sft_args.train_on_completions_only"] else "all"
    for section in ("model", "tokenizer"):
        kwargs = resolved[section]["from_pretrained"]
        kwargs.update({key: "" for key in kwargs if key == "subfolder" and kwargs[key] is None})
    kwargs = resolved["model"]["from_pretrained"]
    kwargs["offload_buffers"] = bool(kwargs["offload_buffers"])


def _classes(values: Values, target: Target, resolved: Tree, origins: dict[Path, Origin]) -> None:
    """Name the classes that the arguments of adapter and quantization belong to."""
    del target, origins
    if "peft_kwargs" in values["peft_conf"]:
        definition = title(find(("peft_conf",), values.data))
        resolved["peft"] = {"class": definition.replace("PeftConfig", "Config"), **resolved["peft"]}
    if values.bit_widths():
        resolved["quantization"] = {"class": "BitsAndBytesConfig", **resolved["quantization"]}


def _trainer_args(values: Values, target: Target, resolved: Tree, origins: dict[Path, Origin]) -> None:
    """Complete the trainer's arguments, so that no default of a library version decides."""
    args = resolved["trainer"]["args"]
    for key, default in target.classes["SFTConfig"].items():
        if key not in args and key != "resume_from_checkpoint":
            args[key] = default
            origins[*ARGS, key] = Origin("SFTConfig's default")
    args["max_length"] = values["sft_args.max_seq_length"]
    origins[*ARGS, "max_length"] = values.origins["sft_args", "max_seq_length"]
    if values["tracking"] and values["tracking"]["run_name"]:
        args["run_name"] = values["tracking.run_name"]
        origins[*ARGS, "run_name"] = values.origin("tracking.run_name")
    args["dataset_kwargs"] = {"skip_prepare_dataset": True}
    origins[*ARGS, "dataset_kwargs"] = Origin("silogen prepares the data")


def _hide_secrets(values: Values, target: Target, resolved: Tree, origins: dict[Path, Origin]) -> None:
    """Leave a reference to an environment variable where a secret stood."""
    del target, origins
    for key, variable in SECRETS.items():
        landing = _landing(tuple(key.split(".")))
        assert landing is not None
        if is_secret(values[key]):
            _put(resolved, landing, f"${{env:{variable}}}")
    resolved["tokenizer"]["from_pretrained"]["token"] = resolved["model"]["from_pretrained"]["token"]
    if resolved["tracking"]:
        uri = resolved["tracking"]["mlflow_server_uri"]
        resolved["tracking"]["mlflow_server_uri"] = without_credentials(uri)


ADAPTATIONS = (_tokenizer, _texts, _classes, _trainer_args, _hide_secrets)
