"""From preferences to tokens: a prompt, and two answers that each go on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from silogen_compiler.diagnostics import Diagnostic

from silogen_runtime.chat import (
    UnstableTemplateError,
    apply_template,
    at_once,
    check_bos,
    check_special,
    special_pattern,
)
from silogen_runtime.tokens import untrimmed_offsets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from silogen_runtime.examples import Preference
    from silogen_runtime.tokenizer import ChatTokenizer
    from silogen_runtime.tokens import Tokenized, Tokens


class RenderedPair(NamedTuple):
    """A preference as text; an answer ends with its last end token."""

    prompt: str
    chosen: str
    rejected: str


class EncodedPair(NamedTuple):
    """A preference as int32 tokens; prompt and answer are together what their text gives as a whole."""

    prompt_ids: Tokens
    chosen_ids: Tokens
    rejected_ids: Tokens


def encode_pairs(
    chat: ChatTokenizer,
    preferences: Sequence[Preference],
    *,
    max_length: int | None,
    max_prompt_length: int | None,
) -> tuple[list[EncodedPair | None], list[Diagnostic]]:
    """Return each preference as tokens, None where it can't be, and what is wrong with any of them.

    A prompt that is too long keeps its BOS and its end; an answer keeps what `max_length` leaves for it.
    """
    results = render_pairs(chat, preferences)
    findings = [result for result in results if isinstance(result, Diagnostic)]
    is_special = special_pattern(chat)
    for source in preferences:
        findings += check_special(is_special, source, source.prompt, "")
        findings += check_special(is_special, source, source.chosen + source.rejected, chat.assistant_end)
    rendered = {at: result for at, result in enumerate(results) if isinstance(result, RenderedPair)}
    encoded: list[EncodedPair | None] = [None] * len(results)
    for at, pair in zip(rendered, _tokenize(chat, list(rendered.values())), strict=True):
        source = preferences[at]
        findings += check_bos(chat, source, np.concatenate([pair.prompt_ids, pair.chosen_ids]))
        findings += _check_ends(chat, source, rendered[at])
        encoded[at] = _cut(chat, pair, max_length, max_prompt_length)
    return encoded, findings


def render_pairs(chat: ChatTokenizer, preferences: Sequence[Preference]) -> list[RenderedPair | Diagnostic]:
    """Return each preference as the template writes it, or why it can't be."""

    def write(preferences: Sequence[Preference]) -> list[RenderedPair]:
        prompts = apply_template(
            chat.tokenizer, [source.prompt for source in preferences], add_generation_prompt=True
        )
        chosen = apply_template(chat.tokenizer, [source.prompt + source.chosen for source in preferences])
        rejected = apply_template(chat.tokenizer, [source.prompt + source.rejected for source in preferences])
        return [
            RenderedPair(prompt, _answer(chat, prompt, better), _answer(chat, prompt, worse))
            for prompt, better, worse in zip(prompts, chosen, rejected, strict=True)
        ]

    return at_once(write, preferences, _refusal)


def _answer(chat: ChatTokenizer, prompt: str, text: str) -> str:
    """Return what follows the prompt, up to the last end token."""
    if not text.startswith(prompt):
        raise UnstableTemplateError("the chat template writes the prompt differently when an answer follows")
    end = text.rfind(chat.assistant_end, len(prompt))
    return text[len(prompt) :] if end < 0 else text[len(prompt) : end + len(chat.assistant_end)]


def _refusal(error: Exception, source: Preference) -> Diagnostic:
    if isinstance(error, UnstableTemplateError):
        return Diagnostic("SG606", str(error), source.span, help="write another chat_template_name")
    return Diagnostic("SG607", f"the chat template refuses this preference: {error}", source.span)


def _check_ends(chat: ChatTokenizer, source: Preference, pair: RenderedPair) -> Iterator[Diagnostic]:
    """Yield a finding for an answer without exactly one end token for each turn of the assistant."""
    for name in ("chosen", "rejected"):
        turns = sum(message["role"] == "assistant" for message in getattr(source, name))
        others = len(getattr(source, name)) - turns
        count = getattr(pair, name).count(chat.assistant_end)
        if not turns <= count <= turns + others:  # other roles may end with it too
            end = f"`{chat.assistant_end}` {count} time{'s' * (count != 1)}"
            message = f"the {name} answer holds the end token {end}, not once for each assistant turn"
            yield Diagnostic("SG609", message, source.span)


def _tokenize(chat: ChatTokenizer, pairs: Sequence[RenderedPair]) -> Iterator[EncodedPair]:
    texts = ([pair.prompt + pair.chosen for pair in pairs], [pair.prompt + pair.rejected for pair in pairs])
    with untrimmed_offsets(chat.tokenizer):
        for pair, better, worse in zip(pairs, *map(chat.texts, texts), strict=True):
            shared = _shared(len(pair.prompt), better, worse)
            yield EncodedPair(better.ids[:shared], better.ids[shared:], worse.ids[shared:])


def _shared(end: int, better: Tokenized, worse: Tokenized) -> int:
    """Return how many tokens the two texts begin with alike before character `end`.

    Fewer than the prompt has alone where its last characters and the first of an answer make one token.
    """
    size = min(text.first(end) for text in (better, worse))
    differs = np.append(better.ids[:size] != worse.ids[:size], [True])
    return int(np.argmax(differs))


def _cut(
    chat: ChatTokenizer, pair: EncodedPair, max_length: int | None, max_prompt_length: int | None
) -> EncodedPair:
    prompt = pair.prompt_ids
    if max_prompt_length is not None and len(prompt) > max_prompt_length:
        kept = max_prompt_length - chat.uses_bos
        prompt = np.concatenate([prompt[: int(chat.uses_bos)], prompt[len(prompt) - kept :]])
    room = None if max_length is None else max(max_length - len(prompt), 0)
    return EncodedPair(prompt, pair.chosen_ids[:room], pair.rejected_ids[:room])
