"""Data files as lines: one JSON object a line, or one list in a .json file, plain or compressed."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from silogen_compiler.diagnostics import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BOM = b"\xef\xbb\xbf"
LIST_NAME = re.compile(r".*\.json(\.\w+)?")
SPACE = re.compile(r"[ \t\r\n]*")

# What compressed files are called and begin with, and what files begin with that hold no lines.
SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4", ".br": "brotli"}
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
OTHER_FILES = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip archive",
    b"\xfd7zXZ": "an xz archive",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


class Line(NamedTuple):
    """One JSON value of a data file, as text, and the number of the line that it begins in."""

    number: int
    text: bytes


def read_lines(path: str) -> Iterator[Line | Diagnostic]:
    """Yield what a file holds; reading ends with a finding where the file is damaged.

    Blank lines are skipped, and a byte order mark and CRLF are fine. A compressed file is known by how it
    begins, or by its suffix.
    """
    other = _begins_with(path, OTHER_FILES)
    if other:
        help_text = "write one JSON object a line, in UTF-8; gzip and zstd are fine"
        yield Diagnostic("SG616", f"this is {other}, not lines of JSON", help=help_text, file=path)
        return
    try:
        with io.BufferedReader(pa.input_stream(path, compression=compression_of(path))) as stream:
            whole = stream.read() if LIST_NAME.fullmatch(path) else None
            if whole is not None and whole.removeprefix(BOM).lstrip()[:1] == b"[":
                yield from _items(path, whole.removeprefix(BOM))
            else:
                yield from _lines(stream if whole is None else io.BytesIO(whole))
    except OSError as error:
        if error.errno is not None:  # the system's; what pyarrow finds has no number
            raise
        yield Diagnostic("SG612", f"this file can't be decompressed: {error}", file=path)


def compression_of(path: str) -> str | None:
    """Return how a file is compressed, as pyarrow calls it; None for a plain one."""
    return _begins_with(path, COMPRESSIONS) or SUFFIXES.get(Path(path).suffix)


def _begins_with(path: str, names: dict[bytes, str]) -> str | None:
    with Path(path).open("rb") as file:
        head = file.read(max(map(len, names)))
    return next((name for mark, name in names.items() if head.startswith(mark)), None)


def _lines(stream: Iterable[bytes]) -> Iterator[Line]:
    for number, raw in enumerate(stream, 1):
        text = raw.removeprefix(BOM).strip() if number == 1 else raw.strip()
        if text:
            yield Line(number, text)


def _items(path: str, whole: bytes) -> Iterator[Line | Diagnostic]:
    """Yield the items of a JSON list, each with the line that it begins in.

    Damage has no span: it is the file's, not that of an item that could be left out.
    """
    try:
        text = whole.decode()
    except UnicodeDecodeError as error:
        number = whole.count(b"\n", 0, error.start) + 1
        problem = f"this list is not UTF-8 (line {number:,})"
        yield Diagnostic("SG604", problem, help="save it as UTF-8", file=path)
        return
    try:
        yield from _decoded(text)
    except json.JSONDecodeError as error:
        what = f"{error.msg[:1].lower()}{error.msg[1:]}"
        yield Diagnostic("SG602", f"this list is not JSON: {what} (line {error.lineno:,})", file=path)
    except RecursionError:
        yield Diagnostic("SG602", "this list is nested too deeply", file=path)


def _decoded(text: str) -> Iterator[Line]:
    decode = json.JSONDecoder().raw_decode
    number, counted, at = 1, 0, _skip(text, _skip(text, 0) + 1)
    while text[at : at + 1] != "]":
        number, counted = number + text.count("\n", counted, at), at
        _, end = decode(text, at)
        yield Line(number, text[at:end].encode())
        at = _skip(text, end)
        if text[at : at + 1] not in {",", "]"}:
            raise json.JSONDecodeError("expected `,` or `]`", text, at)
        at = _skip(text, at + (text[at] == ","))
    if _skip(text, at + 1) < len(text):
        raise json.JSONDecodeError("there is more behind its end", text, _skip(text, at + 1))


def _skip(text: str, at: int) -> int:
    """Return where the space that begins at `at` ends."""
    match = SPACE.match(text, at)
    return match.end() if match else at
