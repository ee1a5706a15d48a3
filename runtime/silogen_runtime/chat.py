"""From conversations to tokens and labels, with masks that are exact to the character."""

from __future__ import annotations

import re
from contextlib import contextmanager
from itertools import chain, takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jinja2 import TemplateError
from silogen_compiler.diagnostics import Diagnostic

from silogen_runtime.tokenizer import special_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from silogen_runtime.examples import Conversation, Message, Preference
    from silogen_runtime.tokenizer import ChatTokenizer, TokenizerType

    Range = tuple[int, int]
    Tokens = NDArray[np.int32]
    Offsets = NDArray[np.int64]

IGNORED = -100  # the label that the loss leaves out


class Rendered(NamedTuple):
    """A conversation as text, and the ranges of characters that are learned."""

    text: str
    learned: list[Range]


class Encoded(NamedTuple):
    """A conversation as int32 tokens and labels of one length; a label is its token, or IGNORED."""

    input_ids: Tokens
    labels: Tokens


class UnstableTemplateError(Exception):
    """A template renders the beginning of a conversation differently when more messages follow."""


def encode(
    chat: ChatTokenizer, conversations: Sequence[Conversation], *, loss_on: str
) -> tuple[list[Encoded | None], list[Diagnostic]]:
    """Return each conversation as tokens, None where it can't be, and what is wrong with any of them."""
    results = [render(chat, conversation, loss_on=loss_on) for conversation in conversations]
    findings = [result for result in results if isinstance(result, Diagnostic)]
    is_special, counted = special_pattern(chat), chat.assistant_end if loss_on == "assistant" else ""
    for source in conversations:
        findings += check_special(is_special, source, source.messages, counted)
    rendered = {at: result for at, result in enumerate(results) if isinstance(result, Rendered)}
    encoded: list[Encoded | None] = [None] * len(results)
    for at, example in zip(
        rendered, tokenize(chat.tokenizer, list(rendered.values()), loss_on=loss_on), strict=True
    ):
        encoded[at] = example
        findings += check_bos(chat, conversations[at], example.input_ids)
        findings += check_ends(chat, conversations[at], rendered[at]) if loss_on == "assistant" else ()
    return encoded, findings


def render(chat: ChatTokenizer, conversation: Conversation, *, loss_on: str) -> Rendered | Diagnostic:
    """Return a conversation as the template writes it, or why it can't be."""
    try:
        text = apply_template(chat.tokenizer, conversation.messages)
        learned = (
            [(0, len(text))] if loss_on == "all" else _assistant_ranges(chat, conversation.messages, text)
        )
    except UnstableTemplateError as error:
        return Diagnostic("SG606", str(error), conversation.span, help="write another chat_template_name")
    except (TemplateError, TypeError) as error:
        message = f"the chat template refuses this conversation: {error}"
        help_text = "change the conversation, or write another chat_template_name"
        return Diagnostic("SG607", message, conversation.span, help=help_text)
    return Rendered(text, learned)


def tokenize(tokenizer: TokenizerType, rendered: Sequence[Rendered], *, loss_on: str) -> list[Encoded]:
    """Return tokens and labels. A token is learned where any character of it is."""
    if not rendered:
        return []
    texts = [example.text for example in rendered]
    if loss_on == "all":
        ids = [np.array(row, np.int32) for row in tokenizer(texts, add_special_tokens=False).input_ids]
        return [Encoded(row, row) for row in ids]
    return [
        _label(ids, offsets, example.learned)
        for (ids, offsets), example in zip(tokens_of(tokenizer, texts), rendered, strict=True)
    ]


def tokens_of(tokenizer: TokenizerType, texts: Sequence[str]) -> Iterator[tuple[Tokens, Offsets]]:
    """Yield the tokens of each text, with the range of characters that each stands for."""
    with _untrimmed_offsets(tokenizer):
        batch = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    for ids, offsets in zip(batch.input_ids, batch.offset_mapping, strict=True):
        flat = np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(offsets))  # faster than np.array
        yield np.array(ids, np.int32), flat.reshape(-1, 2)


def check_bos(
    chat: ChatTokenizer, source: Conversation | Preference, input_ids: Tokens
) -> Iterator[Diagnostic]:
    """Yield a finding where a text begins with several BOS tokens, or with none for a model that uses one."""
    bos = chat.tokenizer.bos_token_id
    leading = len(list(takewhile(lambda token: token == bos, input_ids)))
    if leading > 1 or leading < chat.uses_bos:
        yield Diagnostic(
            "SG608",
            f"the text of this conversation begins with {leading} BOS tokens in place of one",
            source.span,
            help="mend the chat template, or write another chat_template_name",
        )


def check_ends(chat: ChatTokenizer, source: Conversation, example: Rendered) -> Iterator[Diagnostic]:
    """Yield a finding for each assistant turn that does not hold its end token exactly once."""
    for turn, (start, end) in enumerate(example.learned, 1):
        count = example.text.count(chat.assistant_end, start, end)
        if count != 1:
            yield Diagnostic(
                "SG609",
                f"assistant turn {turn} holds the end token `{chat.assistant_end}` {count} times, not once",
                source.span,
            )


def special_pattern(chat: ChatTokenizer) -> re.Pattern[str]:
    """Return what finds the special tokens in a text."""
    tokens = sorted(special_tokens(chat.tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens)) or "(?!)")


def check_special(
    is_special: re.Pattern[str], source: Conversation | Preference, messages: list[Message], counted: str
) -> Iterator[Diagnostic]:
    """Yield a finding for each special token in a message; `counted`, an end token, is counted elsewhere."""
    for message in messages:
        for token in dict.fromkeys(is_special.findall(message["content"])):
            if message["role"] != "assistant" or token != counted:
                yield Diagnostic(
                    "SG621",
                    f"a message of `{message['role']}` holds `{token}`, which is read as that special token",
                    source.span,
                    help="take it out, or spell it so that the tokenizer does not know it",
                )


def _assistant_ranges(chat: ChatTokenizer, messages: list[Message], text: str) -> list[Range]:
    """Return the characters of each assistant turn, up to and with its end token."""
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    ranges = []
    for turn, i in enumerate(turns, 1):
        prompt = apply_template(chat.tokenizer, messages[:i], add_generation_prompt=True)
        is_last = i + 1 == len(messages)
        upto = text if is_last else apply_template(chat.tokenizer, messages[: i + 1])
        if not (upto.startswith(prompt) and text.startswith(upto)):
            raise UnstableTemplateError(
                f"the chat template writes the text up to assistant turn {turn} differently"
                " when more follows, so what the model learns is not what it is asked later"
            )
        last_end = upto.rfind(chat.assistant_end, len(prompt))
        ranges.append((len(prompt), len(upto) if last_end < 0 else last_end + len(chat.assistant_end)))
    return ranges


def apply_template(
    tokenizer: TokenizerType, messages: list[Message], *, add_generation_prompt: bool = False
) -> str:
    """Render as a batch of one, since the tokenizer takes no messages only there."""
    texts = tokenizer.apply_chat_template(
        [messages], tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(texts[0])


def _label(ids: Tokens, offsets: Offsets, learned: list[Range]) -> Encoded:
    supervised = np.zeros(len(ids), bool)
    for start, end in learned:
        supervised |= (offsets[:, 0] < end) & (offsets[:, 1] > start)
    return Encoded(ids, np.where(supervised, ids, np.int32(IGNORED)))


@contextmanager
def _untrimmed_offsets(tokenizer: TokenizerType) -> Iterator[None]:
    """Have tokens keep the spaces of their ranges, in which a token of indentation has nothing else.

    Byte-level post-processors take them off; where no special tokens are added, post-processors do no more.
    """
    backend = tokenizer.backend_tokenizer
    kept, backend.post_processor = backend.post_processor, None
    try:
        yield
    finally:
        backend.post_processor = kept
