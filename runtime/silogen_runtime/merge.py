"""From an adapter and its base to one model that plain transformers loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from silogen_compiler.diagnostics import Diagnostic, Refused

from silogen_runtime.failures import explain_failures
from silogen_runtime.files import new_folder
from silogen_runtime.model_card import merged_card
from silogen_runtime.quiet import quiet_libraries
from silogen_runtime.saved import find_saved, load_saved, load_tokenizer_of, name_of_base, put_adapter

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel

    from silogen_runtime.saved import Saved

CPU = {"": "cpu"}  # has room for most models, and merging is no work for a GPU

UNMERGED_HELP = "load the adapter itself: peft's PeftModel.from_pretrained puts it on its base"


class Merged(NamedTuple):
    """What a merged model is made of."""

    base: str
    adapter_type: str
    dtype: str
    dequantized_from: str


def merge(folder: Path, out: Path, *, base: str | None = None, dtype: str | None = None) -> Merged:
    """Merge the adapter in `folder` into its base and save the model to `out`, whole or not at all.

    A base that was quantized for training is quantized again and dequantized, so that the adapter gets the
    weights that it was trained on. `dtype` is that of the result; without it, what the run computed in.
    Refused where the result would not be the model that was trained.
    """
    refuse_used_folder(out)
    out = out.resolve()  # `.` has no name
    with quiet_libraries(), explain_failures("merging"):
        saved = find_saved(folder)
        kind = mergeable_type(saved)
        name = name_of_base(saved, base)
        chat = load_tokenizer_of(saved, base)
        model = load_saved(saved, chat, device_map=CPU, base=base)
        model, quantization = dequantized(model)
        whole = merge_into(put_adapter(model, saved, chat), dtype)
        refuse_infinite_weights(whole)
        made = Merged(name, kind, str(whole.dtype).removeprefix("torch."), quantization)
        with new_folder(out) as temporary:
            whole.save_pretrained(temporary)
            chat.tokenizer.save_pretrained(temporary)
            (temporary / "README.md").write_text(merged_card(made._asdict(), saved.config), "utf-8")
    return made


def refuse_used_folder(out: Path) -> None:
    """Raise Refused where something would be lost at `out`."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "a folder that holds other files" if out.is_dir() else "a file"
        help_text = "give a folder that is not there yet, or remove this one"
        raise Refused(Diagnostic("SG754", f"`{out}` is {what}", help=help_text, file=str(out)))


def mergeable_type(saved: Saved) -> str:
    """Return the type of the adapter. Refused where nothing can be merged, whatever the weights are."""
    if saved.adapter is None:
        message = f"`{saved.folder}` holds a whole model, so there is nothing to merge"
        raise Refused(Diagnostic("SG753", message, help="load it as it is"))
    kind = str(saved.adapter.peft_type.value)
    if saved.adapter.is_prompt_learning:
        message = f"an adapter of type {kind} puts learned vectors before the text: no weights to merge"
        raise Refused(Diagnostic("SG753", message, help=UNMERGED_HELP))
    return kind


def dequantized(model: PreTrainedModel) -> tuple[PreTrainedModel, str]:
    """Return the model with plain weights, in the type that it computes in, and how they were quantized."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None:
        return model, ""
    config = quantizer.quantization_config
    is_4bit = getattr(config, "load_in_4bit", False)
    dtype = config.bnb_4bit_compute_dtype if is_4bit else model.dtype
    try:
        plain: PreTrainedModel = model.dequantize(dtype=dtype)  # type: ignore[no-untyped-call]
    except (NotImplementedError, AttributeError) as error:
        message = (
            f"weights quantized with {config.quant_method.value} can't be turned back to merge into them"
        )
        help_text = "give the same model before it was quantized with `--base`, and compare the answers"
        raise Refused(Diagnostic("SG753", message, help=help_text)) from error
    return plain.to(dtype), _describe(config, is_4bit=is_4bit)  # type: ignore[arg-type]


def _describe(config: Any, *, is_4bit: bool) -> str:
    if is_4bit:
        return f"4 bits ({config.bnb_4bit_quant_type})"
    return "8 bits" if getattr(config, "load_in_8bit", False) else str(config.quant_method.value)


def merge_into(adapted: PeftModel, dtype: str | None) -> PreTrainedModel:
    """Return the base with the adapter in its weights."""
    was_tied = untie(adapted.get_base_model())
    try:
        whole: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        if "NaNs detected" in str(error):
            raise Refused(infinite("an adapted layer")) from error
        kind = adapted.active_peft_config.peft_type.value
        message = f"peft can't merge this adapter of type {kind}: {str(error).strip().partition(chr(10))[0]}"
        raise Refused(Diagnostic("SG753", message, help=UNMERGED_HELP)) from error
    if was_tied:
        tie_where_equal(whole)
    return whole.to(getattr(torch, dtype)) if dtype else whole


def untie(model: PreTrainedModel) -> bool:
    """Give the head a copy of the embeddings where it shares them, and tell whether it did.

    An adapter changes each of the two for itself, and peft would write both changes to what they share.
    """
    layers = list(model.modules())
    shared = {id(layer.weight) for layer in layers if isinstance(layer, torch.nn.Embedding)}
    heads = [layer for layer in layers if isinstance(layer, torch.nn.Linear) and id(layer.weight) in shared]
    for head in heads:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
    return bool(heads)


def tie_where_equal(model: Any) -> None:
    """Have the head share the embeddings again, unless an adapter has changed one of the two alone."""
    if torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        model.config.tie_word_embeddings = True
        model.tie_weights()


def refuse_infinite_weights(model: torch.nn.Module) -> None:
    """Raise Refused where a weight left the range of its type, as in float16 it can."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise Refused(infinite(f"`{name}`"))


def infinite(what: str) -> Diagnostic:
    return Diagnostic(
        "SG755",
        f"the merged weights of {what} are no longer numbers, or too large for their type",
        help="write `--dtype bfloat16`, which has the range of float32; else the adapter itself is damaged",
    )
