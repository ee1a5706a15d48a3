"""Texts whose words are tokenized once each have the tokens that the tokenizer gives them as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from silogen_runtime import tokens
from silogen_runtime.chat import apply_template
from silogen_runtime.tokens import PATTERNS, TextTokenizer, untrimmed_offsets
from tiny import TEXT, bos_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPELL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
CUTTERS = {
    "byte-level": BYTE_LEVEL,
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL]),
} | {
    name: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), SPELL])
    for name, pattern in PATTERNS.items()
}

# What patterns treat apart, next to each other in any order: the cuts are right whatever stands around them.
WRITTEN = [
    *(
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r",
        "\r\n",
        "\t",
        "/",
        "a",
        "Bc",
        "x1",
        "1234",
        "'s",
        "'S",
        "'",
        ".",
        "!?",
        "-",
    ),
    *("ä", "你好", "❤️", "\u00a0", "\u3000", "\u0301", "\u200d", "\u2028", "\x0b", "\x1c", "\x85", "<", "|>"),
    *("<|start|>", "<|end|>"),
]
texts = st.lists(st.sampled_from(WRITTEN) | st.text(max_size=3), max_size=30).map("".join)


def tokenizer_of(pre_tokenizer, normalizer=None, special=("<|start|>", "<|end|>"), **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(
        [*TEXT, *WRITTEN] * 10,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=list(special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.fixture(scope="module")
def tokenizers():
    made = {name: tokenizer_of(cutter) for name, cutter in CUTTERS.items()}
    return made | {"NFC": tokenizer_of(BYTE_LEVEL, normalizers.NFC())}


@pytest.mark.parametrize("name", [*CUTTERS, "NFC"])
@settings(max_examples=300)
@given(written=st.lists(texts, max_size=4))
def test_words_by_themselves_have_the_tokens_of_the_whole(tokenizers, name, written):
    tokenizer = tokenizers[name]
    texts_of = TextTokenizer(tokenizer)
    assert texts_of.remembers
    with untrimmed_offsets(tokenizer):
        encodings = tokenizer(written, add_special_tokens=False).encodings if written else []
        for text, tokenized, encoding in zip(written, texts_of(written), encodings, strict=True):
            assert tokenized.ids.tolist() == encoding.ids
            for at in range(len(text) + 1):
                assert tokenized.first(at) == sum(upto <= at for _, upto in encoding.offsets)
                assert tokenized.after(at) == sum(start < at for start, _ in encoding.offsets)


def test_words_are_learned_again_when_they_were_many(tokenizers, monkeypatch):
    monkeypatch.setattr(tokens, "KEPT", 10)
    texts_of = TextTokenizer(tokenizers["GPT-2"])
    whole = tokenizers["GPT-2"](TEXT, add_special_tokens=False).input_ids
    assert [[text.ids.tolist() for text in texts_of(TEXT)] for _ in range(3)] == [whole] * 3


OTHERS = {
    "Metaspace": lambda: tokenizer_of(pre_tokenizers.Metaspace()),
    "a space in front": lambda: tokenizer_of(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "an unknown pattern": lambda: tokenizer_of(
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\s\S+\s\S+"), "isolated"), SPELL])
    ),
    "digits alone": lambda: tokenizer_of(pre_tokenizers.Sequence([pre_tokenizers.Digits(), SPELL])),
    "a normalizer": lambda: tokenizer_of(BYTE_LEVEL, normalizers.Replace("a b", "c")),
    "dropout": lambda: tokenizer_of(BYTE_LEVEL, dropout=0.5),
    "a token that takes spaces": lambda: tokenizer_of(
        BYTE_LEVEL, special=(AddedToken("<|end|>", rstrip=True),)
    ),
    "a token with a space": lambda: tokenizer_of(BYTE_LEVEL, special=("of Finland",)),
    "no words": bos_tokenizer,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_tokenizer_that_may_look_across_words_gets_whole_texts(name):
    assert not TextTokenizer(OTHERS[name]()).remembers


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize(
    "template", ["chat-ml", "poro", "simplified-llama31", "mistral-with-system", "keep-original"]
)
def test_a_template_is_rendered_as_transformers_does(load_chat, template, add_generation_prompt):
    tokenizer = load_chat("byte-level", template).tokenizer
    said = ["", " a b\n", "{{ x }} ❤️"]
    roles = ("user", "assistant", "user")
    chats = [
        [{"role": role, "content": content} for role, content in zip(roles, said[at:], strict=False)]
        for at in range(len(said))
    ]
    assert apply_template(tokenizer, chats, add_generation_prompt=add_generation_prompt) == [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=add_generation_prompt)
        for chat in chats
    ]
