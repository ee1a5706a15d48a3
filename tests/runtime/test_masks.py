"""Masks against an oracle that shares nothing with the code.

It writes a text piece by piece, each learned or not, and finds each token's characters from its own spelling.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from silogen_compiler.chat_templates import TOKENS as CHAT_TEMPLATES
from silogen_runtime.chat import IGNORED, encode
from silogen_runtime.examples import Conversation

PIECES = {
    "chat-ml": lambda role, content, _: (f"<|im_start|>{role}\n", f"{content}<|im_end|>", "\n"),
    "mistral-with-system": lambda role, content, eos: {
        "system": (f"<<SYS>>\n{content}\n<</SYS>>\n", "", ""),
        "user": (f"[INST] {content} [/INST]", "", ""),
        "assistant": ("", f"{content}{eos}", " "),
    }[role],
    "poro": lambda role, content, eos: (f"<|{role}|>\n", f"{content}{eos}", ""),
    "simplified-llama31": lambda role, content, _: (
        f"<|start_header_id|>{role}<|end_header_id|>\n\n",
        f"{content.strip()}<|eot_id|>",
        "",
    ),
    "keep-original": lambda role, content, eos: (
        f"### {role}:\n",
        content + eos * (role == "assistant"),
        "\n\n",
    ),
}


def write(template: str, messages: list[dict], bos: str, eos: str) -> list[tuple[str, bool]]:
    """Return the text of a conversation in pieces, with whether each is learned."""
    pieces = [(bos, False)]
    for message in messages:
        before, content, after = PIECES[template](message["role"], message["content"], eos)
        pieces += [(before, False), (content, message["role"] == "assistant"), (after, False)]
    return pieces


def spell(tokenizer, tokens: list[str]) -> list[bytes]:
    """Return the bytes of the text that each token stands for."""
    special = set(tokenizer.get_added_vocab())
    if tokenizer.convert_tokens_to_ids("Ġ") not in (None, tokenizer.unk_token_id):
        byte_of = {char: byte for byte, char in enumerate_byte_characters()}
        return [t.encode() if t in special else bytes(byte_of[char] for char in t) for t in tokens]
    spelled, at_start = [], True
    for token in tokens:
        if token in special:
            spelled.append(token.encode())
        elif token.startswith("<0x"):
            spelled.append(bytes([int(token[3:5], 16)]))
        else:  # the first "▁" after a special token is the tokenizer's own
            spelled.append(token[at_start and token.startswith("▁") :].replace("▁", " ").encode())
        at_start = token in special
    return spelled


def enumerate_byte_characters():
    """Yield the bytes with the characters that byte-level BPE writes for them."""
    spare = 256
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            yield byte, chr(byte)
        else:
            yield byte, chr(spare)
            spare += 1


def expected_labels(tokenizer, ids: list[int], pieces: list[tuple[str, bool]]) -> list[int]:
    learned = [flag for piece, flag in pieces for char in piece for _ in char.encode()]
    spelled = spell(tokenizer, tokenizer.convert_ids_to_tokens(ids))
    assert b"".join(spelled) == "".join(piece for piece, _ in pieces).encode()
    labels, at = [], 0
    for token_id, spelling in zip(ids, spelled, strict=True):
        end = at + max(len(spelling), 1)  # a token without text belongs to the next character
        labels.append(token_id if any(learned[at:end]) else IGNORED)
        at += len(spelling)
    return labels


contents = st.one_of(
    st.text(alphabet="ab \n\tö好❤<|>_e", max_size=20),
    st.sampled_from(
        [
            "    return 1\n        x",
            "  ",
            "\n",
            " lead",
            "trail ",
            "<|im_end|>",
            "</s>",
            "<|endoftext|>",
            "好",
            "",
        ]
    ),
)
turns = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), contents), min_size=1, max_size=6)
conversations = st.tuples(st.none() | contents, turns).map(
    lambda pair: [
        *([] if pair[0] is None else [{"role": "system", "content": pair[0]}]),
        *({"role": role, "content": content} for role, content in pair[1]),
    ]
)


@pytest.mark.parametrize("template", CHAT_TEMPLATES)
@pytest.mark.parametrize("model", ["byte-level", "bos"])
@settings(max_examples=150, deadline=None)
@given(batch=st.lists(conversations, min_size=1, max_size=5))
def test_labels_are_exact(load_chat, model, template, batch):
    chat = load_chat(model, template)
    bos, eos = chat.tokenizer.bos_token or "", chat.tokenizer.eos_token
    encoded, _ = encode(chat, [Conversation(m, "x.jsonl", 1) for m in batch], loss_on="assistant")
    for messages, example in zip(batch, encoded, strict=True):
        pieces = write(template, messages, bos, eos)
        ids = example.input_ids.tolist()
        assert example.labels.tolist() == expected_labels(chat.tokenizer, ids, pieces)
        assert (
            ids == chat.tokenizer("".join(piece for piece, _ in pieces), add_special_tokens=False).input_ids
        )


@pytest.mark.parametrize("model", ["byte-level", "bos"])
def test_all_tokens_are_learned_where_asked(load_chat, model):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "  b"}]
    chat = load_chat(model, "chat-ml")
    encoded, findings = encode(chat, [Conversation(messages, "x.jsonl", 1)], loss_on="all")
    assert not findings
    assert encoded[0].labels.tolist() == encoded[0].input_ids.tolist()
