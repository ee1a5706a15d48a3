"""Where each canonical value lands among the libraries' arguments, and what today's libraries ignore."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

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
    **{tuple(key.split(".")): None for key in NO_EFFECT},
}

MOST_KEPT = 4096  # a list of data sets may have many paths

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


class _Landings(dict["Path", "Path | None"]):
    """Where each canonical path lands, None where its value only chooses or has no effect.

    A plain look-up, filled as it is asked: each compile asks for hundreds.
    """

    def __missing__(self, path: Path) -> Path | None:
        length = next((length for length in range(len(path), 0, -1) if path[:length] in LANDINGS), 0)
        assert length, f"{path} has no landing"
        found = LANDINGS[path[:length]]
        place = None if found is None else found + path[length:]
        if len(self) < MOST_KEPT:
            self[path] = place
        return place


landing = _Landings().__getitem__


@lru_cache(4096)
def lands_apart(section: Path) -> tuple[str | int, ...]:
    """Return the keys of a section with a landing of their own, or with one below them."""
    depth = len(section)
    below = [path for path in LANDINGS if len(path) > depth and path[:depth] == section]
    return tuple(dict.fromkeys(path[depth] for path in below))
