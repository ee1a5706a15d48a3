"""The tokenizer of a run: its chat template, its special tokens, its padding."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from jinja2 import TemplateError
from silogen_compiler.diagnostics import Diagnostic, Refused
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase

from silogen_runtime.environment import fill_references
from silogen_runtime.tokens import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_config import ChatTemplate, ResolvedConfig

TokenizerType: TypeAlias = PreTrainedTokenizerBase

PAD_SOURCES = {
    "eos-repurpose": "eos_token",
    "bos-repurpose": "bos_token",
    "unk-repurpose": "unk_token",
    "unk-convert-to-eos": "unk_token",
}

PROBE = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": "An answer."}]


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer that renders conversations, and what the masks need to know of it."""

    tokenizer: TokenizerType
    assistant_end: str
    uses_bos: bool
    new_tokens: int

    @cached_property
    def texts(self) -> TextTokenizer:
        """What makes tokens of texts, from now on with the special tokens that the tokenizer has now."""
        return TextTokenizer(self.tokenizer)


def load_tokenizer(config: ResolvedConfig) -> ChatTokenizer:
    """Load the tokenizer and set it up for training. Refused where it can't do what the config asks."""
    tokenizer = AutoTokenizer.from_pretrained(**fill_references(config.tokenizer.from_pretrained))
    findings = [finding for rule in RULES for finding in rule(tokenizer, config)]
    if findings:
        raise Refused(*findings)
    tokenizer.padding_side = config.tokenizer.padding_side
    if tokenizer.pad_token is None:
        tokenizer.pad_token = getattr(tokenizer, PAD_SOURCES[config.tokenizer.missing_pad_token_strategy])
    template = config.tokenizer.chat_template
    return ChatTokenizer(
        tokenizer,
        assistant_end=template.assistant_end or _written_end(tokenizer),
        new_tokens=_add_special_tokens(tokenizer, template.added_tokens),
        uses_bos=_install_template(tokenizer, template),
    )


def uses_bos(tokenizer: TokenizerType) -> bool:
    """Tell whether texts for this model begin with a BOS token."""
    ids = tokenizer("x").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def for_inference(chat: ChatTokenizer) -> TokenizerType:
    """Return a copy to save: it stops at the end of an assistant turn and begins texts as in training."""
    tokenizer = copy.deepcopy(chat.tokenizer)
    appends_eos = tokenizer("x").input_ids[-1:] == [tokenizer.eos_token_id]
    tokenizer.eos_token = chat.assistant_end
    if hasattr(tokenizer, "add_bos_token") and (chat.uses_bos or appends_eos):
        flags = {"add_bos_token": chat.uses_bos, "add_eos_token": False}
        for name, value in flags.items():
            setattr(tokenizer, name, value)
        tokenizer.init_kwargs |= flags  # these are what save_pretrained writes
    return tokenizer


def _install_template(tokenizer: TokenizerType, template: ChatTemplate) -> bool:
    """Have conversations rendered with one BOS where the model uses one; return whether it does."""
    own = template.template is None
    tokenizer.chat_template = tokenizer.get_chat_template() if own else template.template
    return with_one_bos(tokenizer)


def with_one_bos(tokenizer: TokenizerType) -> bool:
    """Have the tokenizer's template write the BOS where the model uses one; return whether it does."""
    if not uses_bos(tokenizer):
        return False
    try:
        text = str(tokenizer.apply_chat_template(PROBE, tokenize=False))
    except (TemplateError, TypeError):
        return True  # the template refuses this conversation; the data will show whether it takes theirs
    if not text.startswith(str(tokenizer.bos_token)):
        tokenizer.chat_template = "{{- bos_token -}}" + tokenizer.chat_template
    return True


def _written_end(tokenizer: TokenizerType) -> str:
    """Return the tokenizer's end token, or the special token that its template ends a turn with instead."""
    end = str(tokenizer.eos_token)
    try:
        text = str(tokenizer.apply_chat_template(PROBE, tokenize=False))
    except (TemplateError, TypeError):
        return end
    behind = text.rpartition(PROBE[-1]["content"])[2]
    written = [token for token in special_tokens(tokenizer) if token in behind]
    return end if end in behind or not written else min(written, key=behind.index)


def special_tokens(tokenizer: TokenizerType) -> list[str]:
    """Return the texts that the tokenizer reads as special tokens, wherever they stand."""
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def _add_special_tokens(tokenizer: TokenizerType, tokens: list[str]) -> int:
    """Make `tokens` special and return how many of them are new to the vocabulary."""
    before = len(tokenizer)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return len(tokenizer) - before


def _chat_template(tokenizer: TokenizerType, config: ResolvedConfig) -> Iterator[Diagnostic]:
    if config.tokenizer.chat_template.template is None and tokenizer.chat_template is None:
        yield Diagnostic(
            "SG712",
            "the tokenizer has no chat template of its own",
            help="write a `chat_template_name` other than keep-original",
        )


def _end_token(tokenizer: TokenizerType, config: ResolvedConfig) -> Iterator[Diagnostic]:
    template = config.tokenizer.chat_template
    end = template.assistant_end or tokenizer.eos_token
    if end is None:
        yield Diagnostic(
            "SG713",
            f"the tokenizer has no end token, with which template `{template.name}` ends an assistant turn",
            help="write a `chat_template_name` that brings its own, such as chat-ml",
        )
    elif end not in {*template.added_tokens, *tokenizer.get_vocab()}:
        yield Diagnostic("SG713", f"`{end}`, the end of an assistant turn, is no token of the tokenizer")


def _padding(tokenizer: TokenizerType, config: ResolvedConfig) -> Iterator[Diagnostic]:
    strategy = config.tokenizer.missing_pad_token_strategy
    if tokenizer.pad_token is not None:
        if strategy == "unk-convert-to-eos":
            yield Diagnostic(
                "SG714",
                "`unk-convert-to-eos` is for tokenizers without a pad token;"
                f" this one has `{tokenizer.pad_token}`",
                help="write `missing_pad_token_strategy: bos-repurpose`, and that pad token is used",
            )
        return
    for name in {PAD_SOURCES[strategy], "eos_token" if strategy == "unk-convert-to-eos" else ""} - {""}:
        if getattr(tokenizer, name) is None:
            yield _missing_pad_source(tokenizer, strategy, name)


def _missing_pad_source(tokenizer: TokenizerType, strategy: str, name: str) -> Diagnostic:
    fitting = [
        key
        for key, source in PAD_SOURCES.items()
        if getattr(tokenizer, source) is not None and key != "unk-convert-to-eos"
    ]
    return Diagnostic(
        "SG714",
        f"missing_pad_token_strategy `{strategy}` needs the {name} of the tokenizer, which has none",
        help=f"this tokenizer can take: {', '.join(fitting)}" if fitting else "",
    )


def _offsets(tokenizer: TokenizerType, config: ResolvedConfig) -> Iterator[Diagnostic]:
    if getattr(config.data, "loss_on", "assistant") == "assistant" and not tokenizer.is_fast:
        yield Diagnostic(
            "SG715",
            f"{type(tokenizer).__name__} does not tell which text a token stands for, which learning from"
            " the assistant's messages only needs",
            help="write `use_fast_tokenizer: true` under run_conf"
            + ", or `train_on_completions_only: false`" * (config.method == "sft"),
        )


def _no_new_tokens(tokenizer: TokenizerType, config: ResolvedConfig) -> Iterator[Diagnostic]:
    template = config.tokenizer.chat_template
    new = [token for token in template.added_tokens if token not in tokenizer.get_vocab()]
    if config.method == "dpo" and new:
        yield Diagnostic(
            "SG735",
            f"template `{template.name}` needs tokens that the tokenizer lacks, and dpo adds none: "
            + ", ".join(f"`{token}`" for token in new),
            help="write the `chat_template_name` that the model was trained with, or keep-original",
        )


RULES = (_chat_template, _end_token, _padding, _offsets, _no_new_tokens)
