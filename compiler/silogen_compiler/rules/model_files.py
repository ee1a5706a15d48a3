"""What a model folder says about the model: config.json, the headers of its weights, its vocabulary.

Facts only, read when first asked for, never the weights. A missing or broken file says nothing: whoever loads
the model reports it.
"""

from __future__ import annotations

import json
import os
import re
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CONFIG = 4 * 1024 * 1024
MAX_HEADER = 64 * 1024 * 1024
MAX_TOKENIZER = 64 * 1024 * 1024
MAX_PARSED = 4 * 1024 * 1024  # a tokenizer.json that is parsed as a whole
MAX_ADDED = 1024 * 1024  # the part of it that lists the added tokens

ADDED_LATER = ("tokenizer_config.json", "added_tokens.json")  # may hold tokens that tokenizer.json lacks

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"

DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


class Weight(NamedTuple):
    """A tensor of a checkpoint. `dtype` is safetensors' name for it, empty where its shard is not there."""

    dtype: str
    shape: tuple[int, ...]


class ModelFiles:
    """A model folder. `config` is the object in config.json; `folder` is empty for a model elsewhere."""

    def __init__(self, folder: str, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config

    @cached_property
    def text(self) -> dict[str, Any]:
        """The config of the language model: with several kinds of input it is a part of the whole."""
        part = self.config.get("text_config")
        return {**self.config, **part} if isinstance(part, dict) else self.config

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def quantization(self) -> dict[str, Any]:
        """How the checkpoint is quantized, `{}` where it is not."""
        found = self.config.get("quantization_config")
        return found if isinstance(found, dict) else {}

    @cached_property
    def dtype(self) -> str:
        """The number type of the weights as the config names it, else that of the first of them."""
        named = self.config.get("dtype", self.config.get("torch_dtype"))
        if isinstance(named, str):
            return named.removeprefix("torch.")
        return next((DTYPES[w.dtype] for w in self.weights.values() if w.dtype in DTYPES), "")

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """Every weight by name, from one safetensors file or from the shards that the index names."""
        index = _read_json(f"{self.folder}/{INDEX}", MAX_HEADER) if self.folder else {}
        places = index.get("weight_map")
        if not isinstance(places, dict):
            return _header(f"{self.folder}/{SINGLE}") if self.folder else {}
        found = dict.fromkeys(places, Weight("", ()))
        shards = {shard for shard in places.values() if isinstance(shard, str) and "/" not in shard}
        for shard in sorted(shards):
            found |= _header(f"{self.folder}/{shard}")
        return found

    @cached_property
    def modules(self) -> dict[str, None]:
        """The names of the modules that hold weights and of those around them, in order."""
        found: dict[str, None] = {}
        for name in self.weights:
            module = name.partition(".weight")[0] if ".weight" in name else name.rpartition(".")[0]
            while module and module not in found:
                found[module] = None
                module = module.rpartition(".")[0]
        return found

    @property
    def parameters(self) -> int:
        """The number of weights in all headers that could be read."""
        return sum(prod(weight.shape) for weight in self.weights.values() if weight.dtype)

    def number(self, *keys: str) -> int | None:
        """Return the first of the language model's settings `keys` that is a whole number."""
        return next((self.text[key] for key in keys if _is_whole(self.text.get(key))), None)


def read_model(folder: str) -> ModelFiles | None:
    """Return the model in a local folder with a config.json; None for every other name."""
    path = f"{folder}/config.json"
    return ModelFiles(folder, _read_json(path, MAX_CONFIG)) if _is_file(path) else None


def vocabulary_size(folder: str) -> int | None:
    """Return the largest token id plus one of the tokenizer in `folder`; None where it can't be told.

    A large tokenizer.json is searched, not parsed: BPE lists its tokens by id, then its merges. In another
    order, the result is too small rather than too large.
    """
    raw = _read(f"{folder}/tokenizer.json", MAX_TOKENIZER)
    last = _last_of_bpe(raw)
    last = _last_of_any(raw) if last is None else last
    ids = [*_added_ids(raw), *_configured_ids(folder), *([] if last is None else [last])]
    return None if last is None else max(ids) + 1


def missing_tokens(folder: str, tokens: Iterable[str]) -> list[str]:
    """Return which of the tokens no file of the tokenizer in `folder` names; none where it can't be told."""
    raw = _read(f"{folder}/tokenizer.json", MAX_TOKENIZER)
    raw += b"".join(_read(f"{folder}/{name}", MAX_CONFIG) for name in ADDED_LATER) if raw else b""
    return [token for token in tokens if raw and json.dumps(token).encode() not in raw]


def _last_of_bpe(raw: bytes) -> int | None:
    """Return the last id before `"merges": [`; as a token's name the word would be followed by a number."""
    at = raw.find(b'"merges"')
    while at >= 0 and not re.match(rb"\s*:\s*\[", raw[at + 8 : at + 40]):
        at = raw.find(b'"merges"', at + 1)
    before = re.search(rb"(\d+)\s*\}\s*,\s*$", raw[max(at - 80, 0) : at]) if at >= 0 else None
    return int(before[1]) if before else None


def _last_of_any(raw: bytes) -> int | None:
    model = (_parse(raw) if len(raw) <= MAX_PARSED else {}).get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return max((number for number in vocabulary.values() if _is_whole(number)), default=None)
    return len(vocabulary) - 1 if isinstance(vocabulary, list) and vocabulary else None


def _added_ids(raw: bytes) -> list[int]:
    """Return the ids of the list behind the first `"added_tokens":`, near the start of tokenizer.json."""
    head = re.search(rb'"added_tokens"\s*:\s*(?=\[)', raw[:MAX_ADDED])
    text = raw[head.end() : head.end() + MAX_ADDED].decode("utf-8", "replace") if head else ""
    try:
        tokens, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return []
    return [token["id"] for token in tokens if isinstance(token, dict) and _is_whole(token.get("id"))]


def _configured_ids(folder: str) -> list[int]:
    tokens = _read_json(f"{folder}/tokenizer_config.json", MAX_CONFIG).get("added_tokens_decoder")
    return (
        [int(key) for key in tokens if re.fullmatch(r"[0-9]{1,9}", key)] if isinstance(tokens, dict) else []
    )


def _header(path: str) -> dict[str, Weight]:
    """Return the weights that a safetensors file says it holds."""
    size = int.from_bytes(_read(path, 8, part=True), "little")
    header = _parse(_read(path, size + 8, part=True)[8:]) if 0 < size <= MAX_HEADER else {}
    found = {name: _weight(entry) for name, entry in header.items() if name != "__metadata__"}
    return {name: weight for name, weight in found.items() if weight}


def _weight(entry: Any) -> Weight | None:
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    fits = isinstance(dtype, str) and isinstance(shape, list) and all(map(_is_whole, shape))
    return Weight(str(dtype), tuple(shape or ())) if fits else None


def _read_json(path: str, limit: int) -> dict[str, Any]:
    return _parse(_read(path, limit))


def _parse(raw: bytes) -> dict[str, Any]:
    """Return a JSON object, `{}` for anything else."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: str, limit: int, *, part: bool = False) -> bytes:
    """Return a file of at most `limit` bytes, or that `part` of a longer one; nothing of any other."""
    try:
        if not _is_file(path):
            return b""
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs start-up time
            size = os.fstat(file.fileno()).st_size
            return file.read(min(size, limit)) if part or size <= limit else b""
    except OSError:
        return b""


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - pathlib costs start-up time


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
