"""The model of a run: base weights, quantization, adapter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import peft
import transformers
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_config import PretrainedAdapter
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed, trainer_utils

from silogen_runtime.earlier_adapter import put_on, read_adapter
from silogen_runtime.environment import fill_references, is_main_process
from silogen_runtime.files import new_folder
from silogen_runtime.tokenizer import for_inference

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from silogen_config import ResolvedConfig
    from transformers import TrainingArguments

    from silogen_runtime.tokenizer import ChatTokenizer


class LoadedModel(NamedTuple):
    """A model to train, the adapter that the trainer is to put on it, and what dpo compares it with."""

    model: PreTrainedModel | peft.PeftModel
    new_adapter: peft.PeftConfig | None
    reference: PreTrainedModel | None = None


def load_model(config: ResolvedConfig, args: TrainingArguments, chat: ChatTokenizer) -> LoadedModel:
    """Load the model and fit it to the tokenizer. Refused where the parts don't go together."""
    set_seed(args.seed)  # rows of new tokens are drawn at random
    adapter, earlier = None, None
    if isinstance(config.peft, PretrainedAdapter):
        earlier = read_adapter(config.peft.pretrained)
    elif config.peft:
        adapter = getattr(peft, config.peft.class_)(**config.peft.kwargs)
    model = load_base(config)
    refuse_misfits(config, chat, LoadedModel(model, adapter or earlier))
    align_special_tokens(model, chat)
    if chat.new_tokens and hasattr(adapter, "modules_to_save"):
        train_embeddings(model, adapter)
    if needs_growth(model, chat):
        model.resize_token_embeddings(len(chat.tokenizer))
        if config.peft and config.run.save_name_if_new_basemodel:
            save_base(model, chat, Path(str(args.output_dir), config.run.save_name_if_new_basemodel))
    if config.quantization:
        model = prepare_quantized(model, args)
    if isinstance(config.peft, PretrainedAdapter):
        model = put_on(model, config.peft.pretrained)
    return LoadedModel(model, adapter, load_base(config) if needs_reference(config) else None)


def needs_reference(config: ResolvedConfig) -> bool:
    """Tell whether dpo needs a second model: an adapter can be turned off, and the model asked beforehand."""
    return config.method == "dpo" and not config.peft and not config.trainer.args["precompute_ref_log_probs"]


def load_base(config: ResolvedConfig) -> PreTrainedModel:
    """Load the base weights, from safetensors unless the config says otherwise."""
    kwargs = {"use_safetensors": True, **fill_references(config.model.from_pretrained)}
    kwargs |= {key: number_devices(kwargs[key]) for key in ("device_map", "max_memory") if key in kwargs}
    if config.quantization:
        quantization_class = getattr(transformers, config.quantization.class_)
        kwargs["quantization_config"] = quantization_class(**config.quantization.kwargs)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(**kwargs)
    return model


def number_devices(places: Any) -> Any:
    """Return a device_map or max_memory with GPUs as numbers, which keys of YAML and JSON can't be."""
    if isinstance(places, dict):
        return {_as_number(key): _as_number(value) for key, value in places.items()}
    return _as_number(places)


def _as_number(name: Any) -> Any:
    return int(name) if isinstance(name, str) and name.isdecimal() else name


def prepare_quantized(model: PreTrainedModel, args: TrainingArguments) -> PreTrainedModel:
    """Freeze the weights, with norms in float32, and keep them in the form that gradients pass through.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks 4-bit weights for inference the first time that they
    are evaluated; from then on training would get wrong gradients.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - torch types modules so
    prepared: PreTrainedModel = peft.prepare_model_for_kbit_training(
        model, args.gradient_checkpointing, args.gradient_checkpointing_kwargs
    )
    return prepared


def refuse_misfits(config: ResolvedConfig, chat: ChatTokenizer, loaded: LoadedModel) -> None:
    findings = [*_quantized_growth(config, chat, loaded), *_adapter_on_head(loaded)]
    if findings:
        raise Refused(*findings)


def needs_growth(model: PreTrainedModel, chat: ChatTokenizer) -> bool:
    """Tell whether the vocabulary has outgrown the embeddings, which often have rows to spare."""
    embeddings = cast("torch.nn.Embedding", model.get_input_embeddings())
    return len(chat.tokenizer) > embeddings.num_embeddings


def train_embeddings(model: PreTrainedModel, adapter: peft.PeftConfig) -> None:
    """Have the adapter hold trained copies of the embeddings and the output layer, tied where they are."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[no-untyped-call]
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if module in ends}
    adapter.modules_to_save = sorted({*(adapter.modules_to_save or ()), *names})
    if model.config.tie_word_embeddings and hasattr(adapter, "ensure_weight_tying"):
        adapter.ensure_weight_tying = True


def save_base(model: PreTrainedModel, chat: ChatTokenizer, folder: Path) -> None:
    """Save the grown base model, and have the adapter name it as its base."""
    if is_main_process():
        with new_folder(folder) as temporary:
            model.save_pretrained(temporary)
            for_inference(chat).save_pretrained(temporary)
    model.name_or_path = str(folder)


def align_special_tokens(model: PreTrainedModel, chat: ChatTokenizer) -> None:
    """Tell the model the tokenizer's special tokens, and have generation end with an assistant turn too."""
    trainer_utils.align_special_tokens(model, chat.tokenizer)  # type: ignore[no-untyped-call]
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known] * (known is not None)
    end = chat.tokenizer.convert_tokens_to_ids(chat.assistant_end)
    model.generation_config.eos_token_id = list(dict.fromkeys([end, *known]))


def _quantized_growth(
    config: ResolvedConfig, chat: ChatTokenizer, loaded: LoadedModel
) -> Iterator[Diagnostic]:
    if config.quantization and needs_growth(loaded.model, chat):
        yield new_tokens_finding(chat, "a quantized model can't grow")


def new_tokens_finding(chat: ChatTokenizer, reason: str) -> Diagnostic:
    return Diagnostic(
        "SG716",
        f"the chat template adds {chat.new_tokens} tokens to the vocabulary, but {reason}",
        help="write `chat_template_name: keep-original`, or a template whose tokens the tokenizer has",
    )


def _adapter_on_head(loaded: LoadedModel) -> Iterator[Diagnostic]:
    targets = getattr(loaded.new_adapter, "target_modules", None) or ()
    head = loaded.model.get_output_embeddings()
    for name in (name for name, module in loaded.model.named_modules() if module is head):
        if _targets(targets, name):
            yield Diagnostic(
                "SG717",
                f"target_modules includes the output layer `{name}`, on which TRL can't train an adapter",
                help=f"remove `{name}` from target_modules; to train it, list it under modules_to_save",
            )


def _targets(target_modules: str | set[str] | tuple[str, ...], name: str) -> bool:
    """Tell whether an adapter's target_modules, names or a regular expression, take in the module `name`."""
    if isinstance(target_modules, str):
        return target_modules != "all-linear" and bool(re.fullmatch(target_modules, name))
    return any(name == target or name.endswith(f".{target}") for target in target_modules)
