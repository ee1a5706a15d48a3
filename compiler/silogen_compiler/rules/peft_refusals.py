"""Combinations of an adapter's arguments that the config classes of peft 0.21 refuse, for peft.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Kwargs = dict[str, Any]


class Refusal(NamedTuple):
    """A combination that the config classes of `peft_types` refuse, with `key` as the argument at fault.

    The message may show arguments, as in "{r}".
    """

    peft_types: set[str]
    key: str
    refused: Callable[[Kwargs], bool]
    message: str
    label: str


# Adapters that take no choice of layers where target_modules is text.
NO_LAYERS_OF_TEXT = {
    *("LORA", "ADALORA", "C3A", "DEFT", "DELORA", "FOURIERFT", "HIRA"),
    *("HRA", "MISS", "PSOFT", "SHADOW", "UNILORA", "WAVEFT"),
}
# Of those, the ones that refuse layers_pattern there too.
NO_PATTERN_OF_TEXT = NO_LAYERS_OF_TEXT - {"ADALORA", "DELORA"}
# Adapters for which layers_pattern alone is a mistake; the others that have the argument ignore it then.
NO_PATTERN_ALONE = {
    *("LORA", "ADALORA", "BOFT", "DEFT", "DELORA", "FOURIERFT", "FROD", "HRA", "LILY", "LOHA", "LOKR"),
    *("OFT", "PEANUT", "PSOFT", "PVERA", "SHADOW", "TINYLORA", "VBLORA", "VERA", "WAVEFT"),
}
PROMPTS = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING"}
FROM_OTHER_TASKS = {"AVERAGE_SOURCE_TASKS", "EXACT_SOURCE_TASK", "ONLY_SOURCE_SHARED"}

CPT_LISTS = ("cpt_token_ids", "cpt_mask", "cpt_tokens_type_mask")
SHADOW_SIZES = (
    *("shadow_num_hidden_layers", "shadow_hidden_size"),
    *("shadow_num_attention_heads", "shadow_intermediate_size"),
)


def _untargeted(kwargs: Kwargs) -> set[str]:
    """Return the feed-forward modules that are not among the targets, where both are lists."""
    modules, targets = kwargs["feedforward_modules"], kwargs["target_modules"]
    return {*modules} - {*targets} if isinstance(modules, list) and isinstance(targets, list) else set()


def _is_pattern_alone(kwargs: Kwargs) -> bool:
    return bool(kwargs["layers_pattern"]) and kwargs["layers_to_transform"] is None


REFUSALS = (
    Refusal(
        NO_LAYERS_OF_TEXT,
        "layers_to_transform",
        lambda kwargs: (
            isinstance(kwargs["target_modules"], str) and kwargs["layers_to_transform"] is not None
        ),
        "`layers_to_transform` needs a list of names in `target_modules`, not the text `{target_modules}`",
        "list the names, such as [q_proj, v_proj], or choose the layers in a regular expression",
    ),
    Refusal(
        NO_PATTERN_OF_TEXT,
        "layers_pattern",
        lambda kwargs: isinstance(kwargs["target_modules"], str) and kwargs["layers_pattern"] is not None,
        "`layers_pattern` needs a list of names in `target_modules`, not the text `{target_modules}`",
        "list the names, such as [q_proj, v_proj], or choose the layers in a regular expression",
    ),
    Refusal(
        NO_PATTERN_ALONE - NO_PATTERN_OF_TEXT,
        "layers_pattern",
        _is_pattern_alone,
        "`layers_pattern` needs `layers_to_transform`, the numbers of the layers",
        "add it, or remove `layers_pattern`",
    ),
    Refusal(
        NO_PATTERN_ALONE & NO_PATTERN_OF_TEXT,
        "layers_pattern",
        lambda kwargs: _is_pattern_alone(kwargs) and not isinstance(kwargs["target_modules"], str),
        "`layers_pattern` needs `layers_to_transform`, the numbers of the layers",
        "add it, or remove `layers_pattern`",
    ),
    Refusal(
        {"LORA"},
        "use_dora",
        lambda kwargs: kwargs["use_dora"] and bool(kwargs["megatron_config"]),
        "`use_dora` does not work with `megatron_config`",
        "remove one of them",
    ),
    Refusal(
        {"LORA"},
        "lora_bias",
        lambda kwargs: kwargs["lora_bias"] and not isinstance(kwargs["init_lora_weights"], bool),
        "`lora_bias` does not work with `init_lora_weights: {init_lora_weights}`",
        "remove one of them",
    ),
    Refusal(
        {"LORA"},
        "lora_bias",
        lambda kwargs: kwargs["lora_bias"] and kwargs["use_dora"],
        "`lora_bias` does not work with `use_dora`",
        "remove one of them",
    ),
    Refusal(
        {"LORA"},
        "init_lora_weights",
        lambda kwargs: kwargs["init_lora_weights"] == "loftq" and not kwargs["loftq_config"],
        "`init_lora_weights: loftq` needs `loftq_config`",
        "add `loftq_config: {{loftq_bits: 4}}`",
    ),
    Refusal(
        {"ADALORA"},
        "total_step",
        lambda kwargs: kwargs["tinit"] + kwargs["tfinal"] >= kwargs["total_step"],
        "`tinit` {tinit} and `tfinal` {tfinal} leave none of `total_step` {total_step} for the ranks to fall",
        "write more than both together",
    ),
    Refusal(
        {"ADAMSS"},
        "init_warmup",
        lambda kwargs: kwargs["use_asa"] and kwargs["init_warmup"] >= kwargs["final_warmup"],
        "`init_warmup` {init_warmup} must be below `final_warmup` {final_warmup}",
        "lower it",
    ),
    Refusal(
        {"BOFT"},
        "boft_block_num",
        lambda kwargs: bool(kwargs["boft_block_size"]) and bool(kwargs["boft_block_num"]),
        "`boft_block_num` {boft_block_num} and `boft_block_size` {boft_block_size} both set the blocks",
        "write `boft_block_size: 0` beside it",
    ),
    Refusal(
        {"BOFT"},
        "boft_block_size",
        lambda kwargs: not kwargs["boft_block_size"] and not kwargs["boft_block_num"],
        "`boft_block_size` and `boft_block_num` are both 0",
        "write one of them, such as `boft_block_size: 4`",
    ),
    Refusal(
        {"CARTRIDGE"},
        "num_frozen_tokens",
        lambda kwargs: kwargs["num_frozen_tokens"] > kwargs["num_virtual_tokens"],
        "`num_frozen_tokens` {num_frozen_tokens} is more than the {num_virtual_tokens} virtual tokens",
        "write {num_virtual_tokens} or less",
    ),
    Refusal(
        {"CPT"},
        "cpt_token_ids",
        lambda kwargs: len({len(kwargs[key]) for key in CPT_LISTS}) > 1,
        "`cpt_token_ids`, `cpt_mask` and `cpt_tokens_type_mask` must be equally long",
        "one entry in each for every token",
    ),
    Refusal(
        {"GRALORA"},
        "gralora_k",
        lambda kwargs: kwargs["r"] % kwargs["gralora_k"] != 0,
        "`gralora_k` {gralora_k} does not divide `r` {r}",
        "write a divisor of {r}",
    ),
    Refusal(
        {"IA3"},
        "feedforward_modules",
        lambda kwargs: bool(_untargeted(kwargs)),
        "`feedforward_modules` must be among `target_modules`",
        "add them there too",
    ),
    Refusal(
        {"OFT"},
        "r",
        lambda kwargs: bool(kwargs["r"]) and bool(kwargs["oft_block_size"]),
        "`r` {r} and `oft_block_size` {oft_block_size} both set the blocks, and peft takes one of them",
        "write `oft_block_size: 0` beside it",
    ),
    Refusal(
        {"OFT"},
        "oft_block_size",
        lambda kwargs: not kwargs["r"] and not kwargs["oft_block_size"],
        "`oft_block_size` and `r` are both 0",
        "write one of them, such as `oft_block_size: 32`",
    ),
    Refusal(
        PROMPTS,
        "prompt_tuning_init",
        lambda kwargs: kwargs["prompt_tuning_init"] == "TEXT" and kwargs["prompt_tuning_init_text"] is None,
        "`prompt_tuning_init: TEXT` needs `prompt_tuning_init_text`",
        "add the text that the virtual tokens start from",
    ),
    Refusal(
        PROMPTS,
        "prompt_tuning_init",
        lambda kwargs: kwargs["prompt_tuning_init"] == "TEXT" and not kwargs["tokenizer_name_or_path"],
        "`prompt_tuning_init: TEXT` needs `tokenizer_name_or_path`",
        "add the name or folder of the tokenizer",
    ),
    Refusal(
        PROMPTS,
        "tokenizer_kwargs",
        lambda kwargs: bool(kwargs["tokenizer_kwargs"]) and kwargs["prompt_tuning_init"] != "TEXT",
        "`tokenizer_kwargs` needs `prompt_tuning_init: TEXT`, not {prompt_tuning_init}",
        "remove it",
    ),
    Refusal(
        {"MULTITASK_PROMPT_TUNING"},
        "prompt_tuning_init",
        lambda kwargs: (
            kwargs["prompt_tuning_init"] in FROM_OTHER_TASKS
            and kwargs["prompt_tuning_init_state_dict_path"] is None
        ),
        "`prompt_tuning_init: {prompt_tuning_init}` needs `prompt_tuning_init_state_dict_path`",
        "add the file of the source prompt",
    ),
    Refusal(
        {"SHADOW"},
        "shadow_model",
        lambda kwargs: (
            kwargs["shadow_model"] != "mirror" and any(kwargs[key] is not None for key in SHADOW_SIZES)
        ),
        "`shadow_model: {shadow_model}` has sizes of its own",
        "remove the `shadow_` sizes",
    ),
    Refusal(
        {"SUPERTUNING"},
        "lora_alpha",
        lambda kwargs: kwargs["lora_alpha"] is not None and kwargs["r"] is None,
        "`lora_alpha` needs `r`",
        "add `r`, or remove it",
    ),
)
