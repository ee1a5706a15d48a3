"""The chat templates by name: Jinja text, the special tokens that it needs, and the assistant's end token."""

from __future__ import annotations

from functools import cache
from typing import Any

FOLDER = next(iter(__path__))

# The tokens that a template adds to the vocabulary, and the one that ends an assistant's turn; None is the
# tokenizer's own end token. `keep-original` takes template and tokens from the tokenizer.
TOKENS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "mistral-with-system": ((), None),
    "chat-ml": (("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "poro": (("<|user|>", "<|assistant|>"), None),
    "simplified-llama31": (("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>"),
    "keep-original": ((), None),
}


@cache
def chat_template(name: str) -> dict[str, Any]:
    """Return the `chat_template` section of a resolved config for the template `name`."""
    added_tokens, assistant_end = TOKENS[name]
    text = None if name == "keep-original" else _text(name)
    return {
        "name": name,
        "template": text,
        "added_tokens": list(added_tokens),
        "assistant_end": assistant_end,
    }


def _text(name: str) -> str:
    with open(f"{FOLDER}/{name}.jinja", encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs start-up time
        return file.read()
