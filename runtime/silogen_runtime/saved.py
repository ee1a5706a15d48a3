"""Trained models on disk: all weights or an adapter, with what the run that saved them knows of them."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import peft
import torch
import transformers
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.sides import SAVED
from transformers import AutoModelForCausalLM, AutoTokenizer

from silogen_runtime.environment import fill_references
from silogen_runtime.machine import looks_like_path
from silogen_runtime.model import align_special_tokens, needs_growth
from silogen_runtime.outputs import output_dir
from silogen_runtime.resolved import parse
from silogen_runtime.tokenizer import ChatTokenizer, for_inference, uses_bos, with_one_bos

if TYPE_CHECKING:
    from silogen_config import ResolvedConfig
    from transformers import PreTrainedModel

    from silogen_runtime.tokenizer import TokenizerType

NAME = "pretrained_model_name_or_path"

# Arguments of loading that are about training, or about the machine that trained.
OF_TRAINING = ("attn_implementation", "device_map", "max_memory", "offload_buffers", "offload_folder")
# Arguments that belong to one place of a model: to the base that the config names, and no other.
OF_PLACE = ("code_revision", "revision", "subfolder", "variant", "force_download")

RANDOM_INIT = "pissa_niter"  # each time it is loaded, it takes a random part out of the base


class Saved(NamedTuple):
    """A model in `folder`; `adapter` where that is what was saved, `config` where its run left it beside."""

    folder: Path
    adapter: peft.PeftConfig | None
    config: ResolvedConfig | None

    @property
    def quantization(self) -> Any:
        """How the weights below the adapter were quantized for training; None for plain ones."""
        spec = self.config.quantization if self.config and self.adapter else None
        return spec and getattr(transformers, spec.class_)(**spec.kwargs)


def find_saved(folder: Path) -> Saved:
    """Return the model in a folder: a checkpoint, or the final one of a run's output folder."""
    config = _config_beside(folder)
    final = config and folder / config.run.final_checkpoint_name
    for place in (folder, final):
        if place and (found := _read(place, config)):
            return found
    message = f"`{folder}` holds no trained model" if folder.is_dir() else f"there is no folder `{folder}`"
    help_text = (
        "give the output folder of a run, one of its checkpoints, or another folder with a config.json"
    )
    raise Refused(Diagnostic("SG750", message, help=help_text, file=str(folder)))


def final_of(config: ResolvedConfig) -> Saved:
    """Return what the run of a config saved at its end."""
    folder = (output_dir(config) or Path()) / config.run.final_checkpoint_name
    if found := _read(folder, config):
        return found
    help_text = "train it first with `silogen train`, or give a checkpoint"
    message = f"the config is not trained to its end: `{folder}` holds no model"
    raise Refused(Diagnostic("SG750", message, help=help_text, file=str(folder)))


def load_tokenizer_of(saved: Saved, base: str | None = None) -> ChatTokenizer:
    """Return the tokenizer that was saved with the model, or else its base's, as inference needs it."""
    has_own = (saved.folder / "tokenizer_config.json").is_file()
    kwargs = {NAME: str(saved.folder)} if has_own else _place_of_base(saved, base)
    tokenizer: TokenizerType = AutoTokenizer.from_pretrained(**kwargs)
    end = saved.config.tokenizer.chat_template.assistant_end if saved.config else None
    begins_with_bos = with_one_bos(tokenizer) if tokenizer.chat_template else uses_bos(tokenizer)
    chat = ChatTokenizer(tokenizer, end or tokenizer.eos_token, begins_with_bos, new_tokens=0)
    return replace(chat, tokenizer=for_inference(chat)) if chat.assistant_end else chat


def load_saved(
    saved: Saved,
    chat: ChatTokenizer,
    *,
    device_map: Any,
    base: str | None = None,
    is_quantized: bool = True,
) -> PreTrainedModel:
    """Load all weights of a model, or those below its adapter, as they were trained on.

    With `is_quantized` off, they are loaded as the base model's files hold them.
    """
    place = _place_of_base(saved, base) if saved.adapter else {NAME: str(saved.folder)}
    kwargs = {**_loading(saved), **place, "device_map": device_map}
    if is_quantized and saved.quantization:
        kwargs["quantization_config"] = saved.quantization
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(**kwargs)
    if chat.assistant_end:
        align_special_tokens(model, chat)
    return model


def put_adapter(model: PreTrainedModel, saved: Saved, chat: ChatTokenizer) -> peft.PeftModel:
    """Put the saved adapter on its base. Refused where it does not fit."""
    init = getattr(saved.adapter, "init_lora_weights", None)
    if isinstance(init, str) and init.startswith(RANDOM_INIT):
        message = f"an adapter with init_lora_weights `{init}` is another one each time that it is loaded"
        raise Refused(Diagnostic("SG752", message, help="train with `init_lora_weights: pissa`"))
    if needs_growth(model, chat) and not getattr(model, "hf_quantizer", None):
        model.resize_token_embeddings(len(chat.tokenizer))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")
            adapted: peft.PeftModel = peft.PeftModel.from_pretrained(model, saved.folder)
    except (RuntimeError, ValueError, UserWarning) as error:
        problem = str(error).strip().splitlines()[-1].strip()[:200]
        message = f"the adapter does not fit `{model.name_or_path}`: {problem}"
        help_text = "give the base model that it was trained on with `--base`"
        raise Refused(Diagnostic("SG752", message, help=help_text)) from error
    return adapted


def name_of_base(saved: Saved, base: str | None = None) -> str:
    """Return the base model of an adapter: `base` where it is given, or the one that was trained on."""
    name = base or (saved.adapter and saved.adapter.base_model_name_or_path)
    if not name:
        message = f"the adapter in `{saved.folder}` does not name its base model"
    elif looks_like_path(name) and not Path(name).is_dir():
        message = f"there is no folder `{name}` for the base model of the adapter"
    else:
        return str(name)
    help_text = "run where the training ran, since paths start there, or give the base model with `--base`"
    raise Refused(Diagnostic("SG751", message, help=help_text))


def default_device(config: ResolvedConfig | None) -> Any:
    """Return where to compute: on the GPUs that there are, unless the config trains on the CPU."""
    on_cpu = bool(config and config.trainer.args.get("use_cpu")) or not torch.cuda.is_available()
    return {"": "cpu"} if on_cpu else "auto"


def _loading(saved: Saved) -> dict[str, Any]:
    """Return the arguments that the run loaded its model with, as far as they are not about training."""
    if saved.config is None:
        return {"dtype": "auto", "use_safetensors": True}
    kwargs = fill_references(saved.config.model.from_pretrained)
    left_out = {NAME, "use_cache", *OF_TRAINING, *OF_PLACE}
    kept = {key: value for key, value in kwargs.items() if key not in left_out}
    return kept if saved.adapter else {**kept, "dtype": "auto", "use_safetensors": True}


def _place_of_base(saved: Saved, base: str | None) -> dict[str, Any]:
    """Return the name of the base model, with its revision where the config gives one for that name."""
    name = name_of_base(saved, base)
    known = saved.config.model.from_pretrained if saved.config else {}
    if known.get(NAME) != name:
        revision = None if base else getattr(saved.adapter, "revision", None)
        return {NAME: name} | ({"revision": revision} if revision else {})
    return {NAME: name} | {key: known[key] for key in OF_PLACE if known.get(key)}


def _config_beside(folder: Path) -> ResolvedConfig | None:
    """Return the config of the run that wrote to `folder`, or to the folder around it."""
    places = (folder / SAVED, folder.absolute().parent / SAVED)
    return next((parse(json.loads(place.read_bytes())) for place in places if place.is_file()), None)


def _read(folder: Path, config: ResolvedConfig | None) -> Saved | None:
    if (folder / "adapter_config.json").is_file():
        return Saved(folder, peft.PeftConfig.from_pretrained(str(folder)), config)
    if (folder / "config.json").is_file():
        return Saved(folder, None, config)
    return None
