"""Stage 4, third part: what a config asks of the model that it names, one function a rule.

A model on disk is asked itself, through its config.json and the headers of its weights. Of any other only the
module names are known, from its family: what does not fit them is a warning.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from silogen_compiler.chat_templates import TOKENS
from silogen_compiler.diagnostics import Diagnostic, Findings
from silogen_compiler.rules.adapters import block_sizes, module_names, valid_patterns
from silogen_compiler.rules.model_files import ModelFiles, missing_tokens, read_model, vocabulary_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.values import Values

ARGS = "run_conf.model_args"

FLASH = {"flash_attention_2", "flash_attention_3"}
MAX_FLASH_HEAD = 256

EMBED_THEMSELVES = {"PROMPT_TUNING", "P_TUNING"}  # past embeddings that are trained beside them

# What a checkpoint in 4 or 8 bits settles for good.
SETTLED = ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")


def check_model(values: Values) -> list[Diagnostic]:
    """Return the findings of all rules; a rule that needs a wrong or missing value has nothing to say.

    Reads the files of a model that is a local folder. Any other costs one look for the folder.
    """
    model = _named_model(values)
    found: list[Diagnostic] = []
    for rule in MODEL_RULES:
        try:
            found += rule(values, model)
        except KeyError:
            if not values.has_gaps:
                raise
    return found


def _named_model(values: Values) -> ModelFiles:
    """Return the model of the config; one without any facts where it is not on disk."""
    run = values.data.get("run_conf", {})
    folder, below = run.get("model", ""), run.get("model_args", {}).get("subfolder")
    files = read_model(f"{folder}/{below}" if below else folder) if folder else None
    return files or ModelFiles("", {})


def quantized_once(values: Values, model: ModelFiles) -> Findings:
    """Refuse a second way to quantize; transformers 5.23 keeps to the checkpoint's, or raises an error."""
    quantization, wanted = model.quantization, values["quant_conf"]
    if not quantization or not values.bit_widths():
        return
    method, keys = _method(model), SETTLED if wanted["load_in_4bit"] else SETTLED[:2]
    other = [key for key in keys if key in quantization and quantization[key] != wanted[key]]
    if method != "bitsandbytes":
        message = f"the checkpoint is quantized already, by {method}"
        yield Diagnostic("SG322", message, values.span("quant_conf"), "remove `quant_conf`")
    elif other:
        message = f"the checkpoint is quantized already, with `{other[0]}` {quantization[other[0]]}"
        label = "write the same, or take the checkpoint in full precision"
        yield Diagnostic("SG322", message, values.span(f"quant_conf.{other[0]}"), label)


def _method(model: ModelFiles) -> str:
    """Return the name of what quantized the checkpoint; older ones of bitsandbytes do not say."""
    named = model.quantization.get("quant_method")
    old = any(model.quantization.get(f"load_in_{width}bit") for width in (4, 8))
    return str(named or ("bitsandbytes" if old else "a method of its own"))


def quantized_checkpoint_needs_adapter(values: Values, model: ModelFiles) -> Findings:
    quantized = model.quantization and _method(model) == "bitsandbytes"
    if quantized and not values.bit_widths() and values["peft_conf.peft_type"] == "NO_PEFT":
        message = "the checkpoint is quantized, and such weights cannot be trained themselves"
        yield Diagnostic(
            "SG306", message, values.span("peft_conf.peft_type"), "choose an adapter, such as LORA"
        )


def _dtype(values: Values, model: ModelFiles) -> tuple[str, str]:
    """Return the number type of the loaded weights, empty where unknown, and the key that settles it."""
    key = "dtype" if values[f"{ARGS}.dtype"] is not None else "torch_dtype"
    named: str = values[f"{ARGS}.{key}"]
    return (model.dtype if named == "auto" else named), f"{ARGS}.{key}"


def no_float16_weights(values: Values, model: ModelFiles) -> Findings:
    """Refuse what training itself refuses; an adapter's weights are float32 whatever the model's are."""
    if values["peft_conf.peft_type"] != "NO_PEFT":
        return
    dtype, key = _dtype(values, model)
    if dtype == "float16":
        message = "weights in float16 can't be trained: their updates are too small for it"
        yield Diagnostic("SG703", message, values.span(key), "write `dtype: bfloat16` or `dtype: float32`")


def flash_dtype(values: Values, model: ModelFiles) -> Findings:
    mixed = values["training_args.bf16"] or values["training_args.fp16"]
    if values[f"{ARGS}.attn_implementation"] not in FLASH or mixed:
        return
    dtype, key = _dtype(values, model)
    if dtype == "float32":
        message = "flash attention takes bfloat16 or float16, and the model is loaded in float32"
        label = "write `dtype: bfloat16`, or `bf16: true` in training_args"
        span = values.span(key if values.is_written(key) else f"{ARGS}.attn_implementation")
        yield Diagnostic("SG325", message, span, label)


def flash_head(values: Values, model: ModelFiles) -> Findings:
    name = values[f"{ARGS}.attn_implementation"]
    if name not in FLASH:
        return
    width, heads = model.number("hidden_size", "n_embd"), model.number("num_attention_heads", "n_head")
    size = model.number("head_dim") or (width // heads if width and heads else 0)
    if size > MAX_FLASH_HEAD:
        message = (
            f"flash attention takes heads of up to {MAX_FLASH_HEAD} numbers, and the model's have {size}"
        )
        yield Diagnostic("SG326", message, values.span(f"{ARGS}.attn_implementation"), "write `sdpa`")


def vocabulary(values: Values, model: ModelFiles) -> Findings:
    """Compare the tokenizer's ids with the rows of the embeddings."""
    rows, folder = model.number("vocab_size"), values["run_conf.tokenizer"] or model.folder
    size = vocabulary_size(folder) if rows and folder else None
    if rows is None or size is None or size <= rows:
        return
    message = f"the tokenizer has ids up to {size - 1}, and the model has embeddings for {rows} tokens"
    span = values.span("run_conf.tokenizer" if values["run_conf.tokenizer"] else "run_conf.model")
    if values.bit_widths():
        label = "remove `quant_conf`, or take a smaller tokenizer"
        yield Diagnostic("SG328", f"{message}, which can't grow in a quantized model", span, label)
    else:
        yield Diagnostic("SG327", message, span, "they will grow, and a new base model be saved")


def template_tokens(values: Values, model: ModelFiles) -> Findings:
    """Refuse a template whose tokens the tokenizer lacks, where they can't be added and learned."""
    is_dpo, embeds_itself = values["method"] == "dpo", values["peft_conf.peft_type"] in EMBED_THEMSELVES
    tokens, _ = TOKENS[values["data_conf.chat_template_name"]]
    if not tokens or not (is_dpo or embeds_itself or values.bit_widths()):
        return
    folder = values["run_conf.tokenizer"] or model.folder
    new = missing_tokens(folder, tokens) if folder else []
    span = values.span("data_conf.chat_template_name")
    label = "write the one that the model was trained with, or keep-original"
    added = f"the chat template adds {len(new)} tokens to the vocabulary"
    if new and is_dpo:
        message = "dpo adds no tokens, and the tokenizer lacks " + ", ".join(f"`{token}`" for token in new)
        yield Diagnostic("SG735", message, span, label)
    elif new and embeds_itself:
        message = f"{added}, but {values['peft_conf.peft_type']} does not train their embeddings"
        yield Diagnostic("SG716", message, span, label)
    elif new and (vocabulary_size(folder) or 0) + len(new) > (model.number("vocab_size") or sys.maxsize):
        yield Diagnostic("SG716", f"{added}, but a quantized model can't grow", span, label)


def special_tokens(values: Values, model: ModelFiles) -> Findings:
    rows = model.number("vocab_size")
    for key in ("eos_token_id", "bos_token_id"):
        ids = model.text.get(key)
        for token in ids if isinstance(ids, list) else [ids]:
            if rows and isinstance(token, int) and not 0 <= token < rows:
                message = f"{key} {token} of the model is not among its {rows} tokens"
                yield Diagnostic("SG327", message, values.span("run_conf.model"), "mend its config.json")


def positions(values: Values, model: ModelFiles) -> Findings:
    key = "sft_args.max_seq_length" if values["method"] == "sft" else "training_args.max_length"
    most, length = model.number("max_position_embeddings", "n_positions"), values[key] or 0
    if most and length > most and not model.text.get("alibi"):
        message = f"`{key.rpartition('.')[2]}` {length} is more than the {most} positions of the model"
        yield Diagnostic("SG329", message, values.span(key), f"write {most} or less")


MODEL_RULES: tuple[Callable[[Values, ModelFiles], Findings], ...] = (
    valid_patterns,
    module_names,
    block_sizes,
    quantized_once,
    quantized_checkpoint_needs_adapter,
    no_float16_weights,
    flash_dtype,
    flash_head,
    vocabulary,
    template_tokens,
    special_tokens,
    positions,
)
