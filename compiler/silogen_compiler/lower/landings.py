"""Where each canonical value lands among the libraries' arguments, and what today's libraries ignore."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from silogen_compiler.load import Path

MODEL = ("model", "from_pretrained")
TOKENIZER = ("tokenizer", "from_pretrained")
ARGS = ("trainer", "args")
QUANTIZATION = ("quantization", "kwargs")
PEFT = ("peft", "kwargs")

# Values that today's libraries take and do nothing with, with the value that is right all the same.
NO_EFFECT: dict[str, tuple[Any, str]] = {
    "run_conf.model_args.low_cpu_mem_usage": (False, "weights are always loaded without a second copy"),
    "run_conf.model_args.offload_state_dict": (None, "the library decides by itself"),
    "run_conf.model_args.resume_download": (False, "downloads always resume"),
    "run_conf.use_fast_tokenizer": (True, "transformers 5 has only fast tokenizers for most models"),
    "training_args.resume_from_checkpoint": (None, "set `run_conf.resume_from_checkpoint`"),
}

# From a canonical path to a resolved path, and what lies below it moves along; the longest match counts. None
# marks a value that only chooses a class or a branch, or has no effect.
LANDINGS: dict[Path, Path | None] = {
    **{tuple(key.split(".")): None for key in NO_EFFECT},
    ("apiVersion",): None,
    ("extends",): None,  # followed before anything is checked
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
    ("peft_conf", "task_type"): (*PEFT, "task_type"),
    ("peft_conf", "peft_kwargs"): PEFT,
    ("peft_conf", "name_or_path"): ("peft", "pretrained"),
    ("quant_conf",): QUANTIZATION,
    ("quant_conf", "quantization_type"): None,
    ("run_conf",): ("run",),
    ("run_conf", "model"): (*MODEL, "pretrained_model_name_or_path"),
    ("run_conf", "model_args"): MODEL,
    ("run_conf", "model_args", "torch_dtype"): None,  # lands as dtype
    ("run_conf", "tokenizer"): (*TOKENIZER, "pretrained_model_name_or_path"),
    ("training_args", "max_prompt_length"): ("data", "max_prompt_length"),
    ("sft_args", "max_seq_length"): ("data", "max_length"),
    ("sft_args", "length_handling"): ("data", "length_handling"),
    ("sft_args", "save_name_if_new_basemodel"): ("run", "save_name_if_new_basemodel"),
    ("sft_args", "train_on_completions_only"): ("data", "loss_on"),
    ("launch",): None,  # lands whole, in launch.py
    ("overrides",): None,  # lands in the learning rate
    ("tracking",): ("tracking",),
}

# Arguments of from_pretrained that the tokenizer takes as well.
SHARED = ("cache_dir", "force_download", "local_files_only", "proxies", "trust_remote_code", "token")
# Those that say where in the model's repository to look: for a tokenizer that comes with the model.
REPOSITORY = ("revision", "code_revision", "subfolder")

# Keys that land only where they hold something. from_pretrained reads its arguments among them as set when
# they are there, even with null.
ONLY_WHEN_SET = {
    "adapter_kwargs",
    "disable_mmap",
    "experts_implementation",
    "gguf_file",
    "ignore_mismatched_sizes",
    "key_mapping",
    "logging_dir",
    "tp_plan",
    "tp_size",
    "use_kernels",
    "weights_only",
}


class Route(NamedTuple):
    """From the section of a canonical value to the place that it lands in, and what holds that.

    Equal sections are mostly one object, and so are equal holders.
    """

    section: Path
    place: Path
    above: Path


@lru_cache(4096)
def route(path: Path) -> Route | None:
    """Return the way of the canonical value at `path`, or None where it has no landing."""
    place = landing(path)
    return Route(_same(path[:-1]), place, _same(place[:-1])) if place else None


@lru_cache(4096)
def _same(path: Path) -> Path:
    return path


def landing(path: Path) -> Path | None:
    """Return where the canonical value at `path` lands, or None where it only chooses or has no effect."""
    for length in range(len(path), 0, -1):
        if path[:length] in LANDINGS:
            found = LANDINGS[path[:length]]
            return None if found is None else found + path[length:]
    raise AssertionError(f"{path} has no landing")
