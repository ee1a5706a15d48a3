"""From conversations to tokens and labels, with masks that are exact to the character."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from jinja2 import TemplateError
from silogen_compiler.diagnostics import Diagnostic
from transformers.utils.chat_template_utils import _compile_jinja_template

from silogen_runtime.tokenizer import special_tokens
from silogen_runtime.tokens import untrimmed_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from silogen_runtime.examples import Conversation, Message, Preference
    from silogen_runtime.tokenizer import ChatTokenizer, TokenizerType
    from silogen_runtime.tokens import Tokenized, Tokens

    Range = tuple[int, int]

Source = TypeVar("Source")
Written = TypeVar("Written")

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
    results = render(chat, conversations, loss_on=loss_on)
    findings = [result for result in results if isinstance(result, Diagnostic)]
    is_special, counted = special_pattern(chat), chat.assistant_end if loss_on == "assistant" else ""
    for source in conversations:
        findings += check_special(is_special, source, source.messages, counted)
    rendered = {at: result for at, result in enumerate(results) if isinstance(result, Rendered)}
    encoded: list[Encoded | None] = [None] * len(results)
    for at, example in zip(rendered, tokenize(chat, list(rendered.values()), loss_on=loss_on), strict=True):
        encoded[at] = example
        findings += check_bos(chat, conversations[at], example.input_ids)
        findings += check_ends(chat, conversations[at], rendered[at]) if loss_on == "assistant" else ()
    return encoded, findings


def render(
    chat: ChatTokenizer, conversations: Sequence[Conversation], *, loss_on: str
) -> list[Rendered | Diagnostic]:
    """Return each conversation as the template writes it, or why it can't be."""

    def write(conversations: Sequence[Conversation]) -> list[Rendered]:
        return _write(chat, [conversation.messages for conversation in conversations], loss_on)

    return at_once(write, conversations, _refusal)


def at_once(
    write: Callable[[Sequence[Source]], list[Written]],
    sources: Sequence[Source],
    refusal: Callable[[Exception, Source], Diagnostic],
) -> list[Written | Diagnostic]:
    """Return what `write` makes of many sources at once, and for each that a template refuses a finding.

    One call for many takes a fraction of the time of many calls. Where it fails, halves are tried apart.
    """
    try:
        return [*write(sources)]
    except (UnstableTemplateError, TemplateError, TypeError) as error:
        if len(sources) == 1:
            return [refusal(error, sources[0])]
    middle = len(sources) // 2
    return [done for half in (sources[:middle], sources[middle:]) for done in at_once(write, half, refusal)]


def _refusal(error: Exception, source: Conversation) -> Diagnostic:
    if isinstance(error, UnstableTemplateError):
        return Diagnostic("SG606", str(error), source.span, help="write another chat_template_name")
    message = f"the chat template refuses this conversation: {error}"
    help_text = "change the conversation, or write another chat_template_name"
    return Diagnostic("SG607", message, source.span, help=help_text)


def tokenize(chat: ChatTokenizer, rendered: Sequence[Rendered], *, loss_on: str) -> list[Encoded]:
    """Return tokens and labels. A token is learned where any character of it is."""
    with untrimmed_offsets(chat.tokenizer):
        texts = chat.texts([example.text for example in rendered])
        if loss_on == "all":
            return [Encoded(text.ids, text.ids) for text in texts]
        return [_label(text, example.learned) for text, example in zip(texts, rendered, strict=True)]


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


def _write(chat: ChatTokenizer, conversations: Sequence[list[Message]], loss_on: str) -> list[Rendered]:
    texts = apply_template(chat.tokenizer, conversations)
    if loss_on == "all":
        return [Rendered(text, [(0, len(text))]) for text in texts]
    turns = [
        (at, i)
        for at, messages in enumerate(conversations)
        for i, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    before = [conversations[at][:i] for at, i in turns]
    prompts = dict(
        zip(turns, apply_template(chat.tokenizer, before, add_generation_prompt=True), strict=True)
    )
    uptos = dict(_usual_turns(chat, conversations, texts, prompts))
    others = [turn for turn in turns if turn not in uptos]
    ended = apply_template(chat.tokenizer, [conversations[at][: i + 1] for at, i in others])
    uptos.update(zip(others, ended, strict=True))
    rendered = [Rendered(text, []) for text in texts]
    for (at, i), prompt in prompts.items():
        text, learned = rendered[at]
        learned.append(_answer(chat, text, len(learned) + 1, prompt, uptos[at, i]))
    return rendered


def _usual_turns(
    chat: ChatTokenizer,
    conversations: Sequence[list[Message]],
    texts: list[str],
    prompts: dict[tuple[int, int], str],
) -> Iterator[tuple[tuple[int, int], str]]:
    """Yield the text up to each turn that ends its conversation, or is its content and the end token.

    That spares the template's rendering of these once more, without what follows.
    """
    for (at, i), prompt in prompts.items():
        messages = conversations[at]
        usual = prompt + messages[i]["content"] + chat.assistant_end
        if i + 1 == len(messages):
            yield (at, i), texts[at]
        elif texts[at].startswith(usual):
            yield (at, i), usual


def _answer(chat: ChatTokenizer, text: str, turn: int, prompt: str, upto: str) -> Range:
    """Return the characters of an assistant turn, up to and with its end token.

    `prompt` is what is written before it, `upto` what is written with it.
    """
    if not (upto.startswith(prompt) and text.startswith(upto)):
        raise UnstableTemplateError(
            f"the chat template writes the text up to assistant turn {turn} differently"
            " when more follows, so what the model learns is not what it is asked later"
        )
    last_end = upto.rfind(chat.assistant_end, len(prompt))
    return len(prompt), len(upto) if last_end < 0 else last_end + len(chat.assistant_end)


def apply_template(
    tokenizer: TokenizerType, conversations: Sequence[list[Message]], *, add_generation_prompt: bool = False
) -> list[str]:
    """Return what `tokenizer.apply_chat_template` writes of each conversation.

    That copies each message, and all that a template may refer to, for every text; here it is done once.
    """
    template = _compile_jinja_template(tokenizer.get_chat_template())
    fixed = {**template.globals, **tokenizer.special_tokens_map, "tools": None, "documents": None}
    fixed["add_generation_prompt"] = add_generation_prompt
    contexts = (template.new_context({**fixed, "messages": chat}, shared=True) for chat in conversations)
    return ["".join(template.root_render_func(context)) for context in contexts]


def _label(text: Tokenized, learned: list[Range]) -> Encoded:
    labels = np.full(len(text.ids), IGNORED, np.int32)
    for start, end in learned:
        inside = slice(text.first(start), text.after(end))
        labels[inside] = text.ids[inside]
    return Encoded(text.ids, labels)
