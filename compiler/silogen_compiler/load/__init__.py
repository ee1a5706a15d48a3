"""Stage 1: a config file becomes plain data, with a span for every key and value."""

from __future__ import annotations

import sys
from errno import EBADF
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, Refused, Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Path = tuple[str | int, ...]

MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 64
MAX_ALIASED = 100_000

# What stands at a path where nothing stands.
MISSING: Any = object()

READERS = {
    "yaml": "silogen_compiler.load.yaml_text",
    "json": "silogen_compiler.load.json_text",
    "toml": "silogen_compiler.load.toml_text",
    "py": "silogen_compiler.load.python_text",
}


class Mark(NamedTuple):
    """Where a key and its value stand; an item of a list has no key.

    The value of a mapping or list has no width: only its start is known.
    """

    key: Span | None
    value: Span


class Layer(NamedTuple):
    """One source of values, or several merged.

    `data` holds dicts with text keys, lists, text, numbers, booleans and None. `marks` maps the path of every
    value to its place, and `sources` the names of the files to their text, for snippets. `replaced` maps a
    path to the place of the value that a later layer replaced, `variables` to the environment variables that
    the value was filled in from.
    """

    name: str
    sources: dict[str, str]
    data: dict[str, Any]
    marks: dict[Path, Mark]
    replaced: Mapping[Path, Span] = MappingProxyType({})
    variables: Mapping[Path, str] = MappingProxyType({})


class Tree(NamedTuple):
    """What a reader returns: data of any shape, and the marks of everything below the top."""

    data: Any
    marks: dict[Path, Mark]


def read_source(name: str) -> str:
    """Return the text of the file `name`, or of standard input for `-`. Raises Refused where it has none."""
    return decode(name, _read(name)).removeprefix("\ufeff")


def load_text(name: str, text: str) -> Layer:
    """Parse `text` in the format that the ending of `name` tells; without a known ending it is YAML.

    Raises Refused with the first mistake: what follows it can't be read reliably.
    """
    tree = load_value(name, text)
    if not isinstance(tree.data, dict):
        raise Refused(_not_a_mapping(name, text, tree.data))
    return Layer(name, {name: text}, tree.data, tree.marks)


def load_value(name: str, text: str) -> Tree:
    """Parse `text`, which may hold a value of any kind, as `load_text` does."""
    suffix = name.rpartition(".")[2].lower()
    reader = import_module(READERS.get(suffix, READERS["yaml"]))
    tree: Tree = reader.read(name, text)
    return tree


def _read(name: str) -> bytes:
    try:
        if name == "-":
            return _standard_input().read(MAX_BYTES + 1)
        with open(name, "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        help_text = "give a file: a folder cannot be compiled" if isinstance(error, IsADirectoryError) else ""
        raise Refused(
            Diagnostic("SG101", f"cannot read `{name}`: {reason.lower()}", help=help_text, file=name)
        ) from None


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise OSError(EBADF, "standard input is closed")
    return sys.stdin.buffer


def decode(name: str, raw: bytes) -> str:
    """Return the text of a file's bytes. Raises Refused where they are too many or no UTF-8."""
    if len(raw) > MAX_BYTES:
        raise Refused(Diagnostic("SG108", f"the file is larger than {MAX_BYTES >> 20} MiB", file=name))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8")) + 1
        byte = f"0x{raw[error.start]:02x}"
        place = Span(name, line, column, column + 1)
        raise Refused(
            Diagnostic("SG102", f"byte {byte} is not UTF-8", place, help="save the file as UTF-8")
        ) from None


def _not_a_mapping(name: str, text: str, data: Any) -> Diagnostic:
    if not text.strip() or data is None:
        message = "the config is empty"
    else:
        message = f"the config must be a mapping of sections, not {describe(data)}"
    start = "start from examples/, or write the six required sections: data_conf, training_args, "
    return Diagnostic(
        "SG106", message, help=start + "batchsize_conf, peft_conf, run_conf, sft_args", file=name
    )


def describe(value: Any) -> str:
    """Return what kind of value this is, in words for a message."""
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def value_at(data: Any, path: Sequence[Any]) -> Any:
    """Return the value at `path`, or MISSING."""
    for key in path:
        is_item = isinstance(data, list) and isinstance(key, int) and key < len(data)
        if not is_item and not (isinstance(data, dict) and key in data):
            return MISSING
        data = data[key]
    return data


def find_mark(marks: dict[Path, Mark], path: Path) -> Mark | None:
    """Return the mark of `path`, or of its nearest marked ancestor."""
    while path:
        if mark := marks.get(path):
            return mark
        path = path[:-1]
    return marks.get(())


def dotted(path: list[str | int] | Path) -> str:
    """Return a path as people write it: `data_conf.training_data.datasets[0].path`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def key_span(layer: Layer, path: Path) -> Span | None:
    """Return the place of a key, or of a list's item."""
    mark = find_mark(layer.marks, path)
    return mark and (mark.key or mark.value)


def value_span(layer: Layer, path: Path) -> Span | None:
    """Return the place of a scalar, or of the key of a mapping or list."""
    mark = find_mark(layer.marks, path)
    if mark is None or mark.key is None:
        return mark and mark.value
    return mark.value if mark.value.end > mark.value.column else mark.key
