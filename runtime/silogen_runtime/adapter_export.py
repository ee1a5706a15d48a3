"""Adapters as vLLM loads them: LoRA weights alone, without what PEFT saves of the base beside them."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from silogen_compiler.diagnostics import Diagnostic, Refused

from silogen_runtime.failures import explain_failures
from silogen_runtime.files import new_folder
from silogen_runtime.merge import CPU, refuse_used_folder
from silogen_runtime.quiet import quiet_libraries
from silogen_runtime.saved import find_saved, load_saved, load_tokenizer_of

if TYPE_CHECKING:
    from pathlib import Path

    from silogen_compiler.diagnostics import Findings

    from silogen_runtime.saved import Saved
    from silogen_runtime.tokenizer import ChatTokenizer

    Weights = dict[str, torch.Tensor]

WEIGHTS = "adapter_model.safetensors"
COPIED = ("adapter_config.json", "README.md")

# The names that vLLM reads; at any other it stops. From vllm/lora/utils.py, parse_fine_tuned_lora_name.
LORA_WEIGHT = re.compile(r".*\.(lora_[AB]\.weight|lora_embedding_[AB])")

# What vLLM refuses in an adapter's config where it is set to anything. From vllm/lora/peft_helper.py.
UNSERVED = {
    "modules_to_save": "whole modules that were trained beside it",
    "use_dora": "DoRA",
    "lora_bias": "biases of its own",
    "alora_invocation_tokens": "activation by tokens (aLoRA)",
    "layer_replication": "replicated layers",
    "use_bdlora": "block-diagonal matrices",
    "use_qalora": "QALoRA",
}
CHANGE_BASE = re.compile(
    "pissa|olora|corda|loftq"
)  # values of init_lora_weights that take a part out of the base

PROMPT_HELP = "it has no weights to merge either: answer with `silogen generate`, or train LORA for vLLM"
MERGE_HELP = "merge it with `silogen merge`; vLLM serves the merged model"


def export_adapter(folder: Path, out: Path, *, base: str | None = None) -> list[str]:
    """Write the adapter in `folder` to `out` as vLLM takes it, and return the names of what was left out.

    Only weights that are the base model's own are left out. Refused where vLLM can't serve the adapter.
    """
    refuse_used_folder(out)
    out = out.resolve()  # `.` has no name
    with quiet_libraries(), explain_failures("reading the adapter"):
        saved = find_saved(folder)
        weights = read_weights(saved)
        refuse_unserved(saved, weights)
        chat = load_tokenizer_of(saved, base)
        dropped = {name: weight for name, weight in weights.items() if not LORA_WEIGHT.fullmatch(name)}
        if dropped:
            refuse_trained(saved, chat, dropped, base)
        with new_folder(out) as temporary:
            kept = {name: weight for name, weight in weights.items() if name not in dropped}
            save_file(kept, temporary / WEIGHTS, metadata={"format": "pt"})
            for name in COPIED:
                if (saved.folder / name).is_file():
                    shutil.copy(saved.folder / name, temporary)
            chat.tokenizer.save_pretrained(temporary)
    return sorted(dropped)


def read_weights(saved: Saved) -> Weights:
    """Return the weights of an adapter. Refused where there is none, or not as safetensors."""
    if saved.adapter is None:
        message = f"`{saved.folder}` holds a whole model, which vLLM serves as it is"
        raise Refused(Diagnostic("SG756", message, help="give the folder of an adapter"))
    if not (saved.folder / WEIGHTS).is_file():
        raise Refused(Diagnostic("SG720", f"can't load: `{saved.folder}` holds no {WEIGHTS}"))
    return dict(load_file(saved.folder / WEIGHTS))


def refuse_unserved(saved: Saved, weights: Weights) -> None:
    findings = [*unserved(saved.adapter)] or [*unreadable(weights)]
    if findings:
        raise Refused(*findings)


def unserved(adapter: Any) -> Findings:
    """Yield what of an adapter's config vLLM has no code for."""
    kind = adapter.peft_type.value
    if kind != "LORA":
        help_text = PROMPT_HELP if adapter.is_prompt_learning else MERGE_HELP
        yield finding(f"an adapter of type {kind}; of all types it takes LORA only", help_text)
        return
    for key, what in UNSERVED.items():
        if getattr(adapter, key, None):
            yield finding(f"an adapter with {what} (`{key}`)")
    if adapter.bias != "none":
        yield finding(f"an adapter that trained biases of the base model (`bias: {adapter.bias}`)")
    init = adapter.init_lora_weights
    if isinstance(init, str) and CHANGE_BASE.match(init.lower()):
        yield finding(f"an adapter that takes a part out of the base model (`init_lora_weights: {init}`)")


def unreadable(weights: Weights) -> Findings:
    """Yield a finding where an adapter has other parts than its two matrices."""
    parts = {name.rpartition(".")[2] for name in weights if not LORA_WEIGHT.fullmatch(name)} - {"weight"}
    if parts:
        yield finding(f"an adapter with other parts than two matrices a layer: {', '.join(sorted(parts))}")


def refuse_trained(saved: Saved, chat: ChatTokenizer, dropped: Weights, base: str | None) -> None:
    """Raise Refused where a weight to leave out is not the base model's."""
    model = load_saved(saved, chat, device_map=CPU, base=base, is_quantized=False)
    own = model.state_dict()
    for name, weight in dropped.items():
        below = own.get(name.removeprefix("base_model.model.").replace(".base_layer.", "."))
        if below is None or below.shape != weight.shape or not torch.equal(below.to(weight.dtype), weight):
            message = f"`{name}`, which is saved with the adapter, is not as `{model.name_or_path}` has it"
            help_text = f"it was trained, or grown for new tokens: {MERGE_HELP}"
            raise Refused(Diagnostic("SG756", message, help=help_text))


def finding(what: str, help_text: str = MERGE_HELP) -> Diagnostic:
    return Diagnostic("SG756", f"vLLM can't serve {what}", help=help_text)
