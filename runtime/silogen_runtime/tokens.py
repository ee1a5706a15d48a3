"""From texts to tokens, and from characters of a text to the tokens that hold them."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding
    from tokenizers import Tokenizer as Backend

    from silogen_runtime.tokenizer import TokenizerType

    Tokens = NDArray[np.int32]

# By what the tokenizers of many families cut a text into words, before they look for tokens in each.
PATTERNS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "Qwen 2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "GPT-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
# A text in pieces, cut where all these patterns cut, whatever stands further off: before a space between two
# other characters of ASCII, and after a newline between two, of which the second is no slash. The first
# branch is for most words, and quick.
PIECES = re.compile(
    r" ?[!-~]+(?:(?= [!-~])|\n(?=[!-.0-~]))|.+?(?:(?<=[!-~])(?= [!-~])|(?<=[!-~]\n)(?=[!-.0-~])|\Z)",
    re.DOTALL,
)
KEPT = 4_000_000  # characters of the words whose tokens are remembered


class Tokenized(Protocol):
    """The tokens of one text, and where its characters are among them."""

    @property
    def ids(self) -> Tokens:
        """The tokens, int32."""

    def first(self, at: int) -> int:
        """Return the first token that holds character `at` or a later one; how many there are, if none."""

    def after(self, end: int) -> int:
        """Return how many tokens there are up to the last that holds a character before `end`."""


class TextTokenizer:
    """What makes tokens of many texts, special tokens in them too, and adds none."""

    def __init__(self, tokenizer: TokenizerType) -> None:
        self.tokenizer = tokenizer
        self.remembers = tokenizer.is_fast and _cuts_at_spaces(tokenizer.backend_tokenizer)
        self._tokenize: Callable[[Sequence[str]], Sequence[Tokenized]]
        self._tokenize = Words(tokenizer.backend_tokenizer) if self.remembers else self._as_whole

    def __call__(self, texts: Sequence[str]) -> Sequence[Tokenized]:
        """Return the tokens of each text. Call in a block of `untrimmed_offsets`."""
        return self._tokenize(texts) if texts else []

    def _as_whole(self, texts: Sequence[str]) -> Sequence[Tokenized]:
        batch = self.tokenizer(
            [*texts], add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )
        encodings = batch.encodings or [None] * len(texts)
        ids = (np.array(row, np.int32) for row in batch.input_ids)
        return [
            Whole(row, encoding, len(text)) for row, encoding, text in zip(ids, encodings, texts, strict=True)
        ]


class Whole:
    """A text that was tokenized as one; those of tokenizers that are not fast know no characters."""

    def __init__(self, ids: Tokens, encoding: Encoding | None, size: int) -> None:
        self.ids, self.encoding, self.size = ids, encoding, size

    def first(self, at: int) -> int:
        return len(self.ids) if self.encoding is None else _first(self.encoding, at, self.size)

    def after(self, end: int) -> int:
        return 0 if self.encoding is None else _after(self.encoding, end)


class Words:
    """A tokenizer that cuts at spaces, and remembers the tokens of each piece between them.

    Data hold the same words over and over: this takes a third of the time.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.known: dict[str, bytes] = {}
        self.size = 0

    def __call__(self, texts: Sequence[str]) -> Sequence[Tokenized]:
        pieces: list[list[str]] = [PIECES.findall(text) for text in texts]
        known = self._learned(set().union(*pieces))
        return [Joined(words, [*map(known.__getitem__, words)], self.backend) for words in pieces]

    def _learned(self, words: set[str]) -> dict[str, bytes]:
        """Return the int32 tokens of all these words, and of others. Threads may ask for some at once."""
        known = self.known
        new = [word for word in words if word not in known]
        encodings = self.backend.encode_batch(new, add_special_tokens=False)
        known.update(
            (word, np.array(encoding.ids, np.int32).tobytes())
            for word, encoding in zip(new, encodings, strict=True)
        )
        self.size += sum(map(len, new))
        if self.size > KEPT:
            self.known, self.size = {}, 0
        return known


class Joined:
    """A text whose pieces were tokenized each by itself."""

    def __init__(self, words: list[str], tokens: list[bytes], backend: Backend) -> None:
        self.ids: Tokens = np.frombuffer(b"".join(tokens), np.int32)
        self._words, self._tokens, self._backend = words, tokens, backend

    @cached_property
    def _ends(self) -> list[int]:
        """Return up to which character each piece goes."""
        return [*accumulate(map(len, self._words))]

    def first(self, at: int) -> int:
        piece = bisect_right(self._ends, at)
        if piece == len(self._words):
            return len(self.ids)
        inside = at - self._start(piece)
        tokens = self._tokens_before(piece)
        return tokens + (_first(self._encoding(piece), inside, len(self._words[piece])) if inside else 0)

    def after(self, end: int) -> int:
        if end == 0:
            return 0
        piece = bisect_left(self._ends, end)
        if end == self._ends[piece]:
            return self._tokens_before(piece + 1)
        return self._tokens_before(piece) + _after(self._encoding(piece), end - self._start(piece))

    def _start(self, piece: int) -> int:
        return self._ends[piece] - len(self._words[piece])

    def _tokens_before(self, piece: int) -> int:
        return sum(map(len, self._tokens[:piece])) // self.ids.itemsize

    def _encoding(self, piece: int) -> Encoding:
        return self._backend.encode(self._words[piece], add_special_tokens=False)


@contextmanager
def untrimmed_offsets(tokenizer: TokenizerType) -> Iterator[None]:
    """Have tokens keep the spaces of their ranges, in which a token of indentation has nothing else.

    Byte-level post-processors take them off; where no special tokens are added, post-processors do no more.
    Threads that tokenize at once share one such block around them all.
    """
    backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
    kept = backend and backend.post_processor
    if backend is None or kept is None:
        yield
        return
    backend.post_processor = None
    try:
        yield
    finally:
        backend.post_processor = kept


def _first(encoding: Encoding, at: int, size: int) -> int:
    """Return the first token that holds character `at` or a later one of `size`.

    Asking for one character takes a tenth of the time of listing what every token stands for.
    """
    found = (encoding.char_to_token(later) for later in range(at, size))
    return next((token for token in found if token is not None), len(encoding))


def _after(encoding: Encoding, end: int) -> int:
    found = (encoding.char_to_token(earlier) for earlier in range(end - 1, -1, -1))
    after = next((token + 1 for token in found if token is not None), 0)
    while after and (chars := encoding.token_to_chars(after)) and chars[0] < end:
        after += 1  # further tokens of the last character
    return after


def _cuts_at_spaces(backend: Backend) -> bool:
    """Tell whether a text has the tokens of its PIECES, as the tokenizer never looks across their ends."""
    added = backend.get_added_tokens_decoder().values()
    return (
        _state(backend.normalizer)["type"] in {None, "NFC"}
        and _is_known(_state(backend.pre_tokenizer))
        and getattr(backend.model, "dropout", None) is None
        and backend.truncation is None
        and backend.padding is None
        and not any(token.lstrip or token.rstrip or token.single_word for token in added)
        and not any(re.search(r"\s", token.content) for token in added)
    )


def _state(part: Any) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(part.__getstate__()) if part else {"type": None}
    return state


def _is_known(step: dict[str, Any]) -> bool:
    """Tell whether a step of cutting, or of steps one, cuts before spaces, and no step looks across a cut."""
    steps = step["pretokenizers"] if step["type"] == "Sequence" else [step]
    return all(map(_is_local, steps)) and any(_cuts(step) or step.get("use_regex") for step in steps)


def _is_local(step: dict[str, Any]) -> bool:
    spelled = step["type"] == "ByteLevel" and not step["add_prefix_space"]
    return spelled or step["type"] == "Digits" or _cuts(step)


def _cuts(step: dict[str, Any]) -> bool:
    if step["type"] != "Split" or step["invert"]:
        return False
    return step["behavior"] == "Isolated" and step["pattern"].get("Regex") in PATTERNS.values()
