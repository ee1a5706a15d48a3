"""Answers of a trained model."""

from __future__ import annotations

import copy
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jinja2 import TemplateError
from silogen_compiler.diagnostics import Diagnostic, Refused
from transformers import TextStreamer, set_seed

from silogen_runtime.chat import apply_template
from silogen_runtime.failures import explain_failures
from silogen_runtime.saved import default_device, load_saved, load_tokenizer_of, put_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import GenerationConfig, PreTrainedModel

    from silogen_runtime.prompts import Prompt
    from silogen_runtime.saved import Saved
    from silogen_runtime.tokenizer import ChatTokenizer


class Answer(NamedTuple):
    """What the model answers, and whether it came to an end (`stop`) or was cut (`length`)."""

    text: str
    finish_reason: str


class Speaker(NamedTuple):
    """A model that answers, with its tokenizer and the parameters of generation."""

    model: Any  # a PreTrainedModel, or a PeftModel around one
    chat: ChatTokenizer
    generation: GenerationConfig


def load_speaker(saved: Saved, parameters: dict[str, Any], *, base: str | None = None) -> Speaker:
    """Load a trained model to generate with. Refused where the parameters don't go together."""
    if base and saved.adapter is None:
        message = f"`--base` has no effect: `{saved.folder}` holds a whole model"
        raise Refused(Diagnostic("SG757", message, help="leave it out"))
    with explain_failures("loading the model"):
        chat = load_tokenizer_of(saved, base)
        if chat.tokenizer.chat_template is None:
            message = "the tokenizer has no chat template, so it is not known how to write a prompt"
            raise Refused(Diagnostic("SG712", message, help="train with a `chat_template_name` first"))
        chat.tokenizer.padding_side = "left"
        if chat.tokenizer.pad_token is None:
            chat.tokenizer.pad_token = chat.tokenizer.eos_token
        model = load_saved(saved, chat, device_map=default_device(saved.config), base=base)
        generation = build_generation(model, parameters)
        whole = put_adapter(model, saved, chat) if saved.adapter else model
    return Speaker(whole.eval(), chat, generation)


def build_generation(model: PreTrainedModel, parameters: dict[str, Any]) -> GenerationConfig:
    """Return the model's own parameters with these above them. Refused where one would have no effect."""
    generation = copy.deepcopy(model.generation_config)
    try:
        generation.update(**parameters, use_cache=True, max_length=None)  # type: ignore[no-untyped-call]
        generation.validate(strict=True, user_set_attributes=set(parameters))
    except ValueError as error:
        text = str(error)
        problems = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")] or [text]
        help_text = "leave it out, or add what it goes with: `silogen generate --help`"
        raise Refused(*(Diagnostic("SG757", problem, help=help_text) for problem in problems)) from error
    return generation


def render_prompts(speaker: Speaker, prompts: Sequence[Prompt]) -> list[str]:
    """Return the text that the model reads for each prompt: as in training, up to where its answer begins."""
    texts = [_render(speaker, prompt) for prompt in prompts]
    longest = getattr(speaker.model.config.get_text_config(), "max_position_embeddings", None)
    for prompt, ids in zip(prompts, tokenize(speaker, texts), strict=True):
        if longest and len(ids) >= longest:
            message = (
                f"a prompt of {len(ids):,} tokens leaves no room in the {longest:,} that the model reads"
            )
            raise Refused(Diagnostic("SG758", message, prompt.span))
    return texts


def _render(speaker: Speaker, prompt: Prompt) -> str:
    try:
        return apply_template(speaker.chat.tokenizer, [prompt.messages], add_generation_prompt=True)[0]
    except (TemplateError, TypeError) as error:
        message = f"the chat template refuses this prompt: {error}"
        raise Refused(Diagnostic("SG607", message, prompt.span)) from error


def tokenize(speaker: Speaker, texts: list[str]) -> list[list[int]]:
    """Return the tokens of each text, whose template writes the BOS."""
    ids: list[list[int]] = speaker.chat.tokenizer(texts, add_special_tokens=False).input_ids
    return ids


def answers(
    speaker: Speaker, prompts: Sequence[Prompt], *, batch_size: int, seed: int, is_streamed: bool = False
) -> Iterator[Answer]:
    """Yield the answer to each prompt, in order; a streamed one is printed as it comes."""
    texts = render_prompts(speaker, prompts)
    set_seed(seed)
    tokenizer = speaker.chat.tokenizer
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True) if is_streamed else None
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        tokens = tokenizer(batch, add_special_tokens=False, padding=True, return_tensors="pt")
        inputs = {name: tokens[name].to(speaker.model.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode(), explain_failures("generating"):
            output = speaker.model.generate(**inputs, generation_config=speaker.generation, streamer=streamer)
        for ids in output[:, inputs["input_ids"].shape[1] :].tolist():
            yield _answer(speaker, ids)


def _answer(speaker: Speaker, ids: list[int]) -> Answer:
    """Return the tokens up to the first end token as text."""
    ends = speaker.generation.eos_token_id
    ends = {*ends} if isinstance(ends, list) else {ends}
    kept = list(takewhile(lambda token: token not in ends, ids))
    text = str(speaker.chat.tokenizer.decode(kept, skip_special_tokens=True))
    return Answer(text, "stop" if len(kept) < len(ids) else "length")
