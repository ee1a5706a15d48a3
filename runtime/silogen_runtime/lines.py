"""Data files as lines: one JSON object a line, or one list in a .json file, plain or compressed."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from silogen_compiler.diagnostics import Diagnostic, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BOM = b"\xef\xbb\xbf"
LIST_NAME = re.compile(r".*\.json(\.\w+)?")
SPACE = re.compile(r"[ \t\r\n]*")


class Line(NamedTuple):
    """One JSON value of a data file, as text, and the number of the line that it begins in."""

    number: int
    text: bytes


def read_lines(path: str) -> Iterator[Line | Diagnostic]:
    """Yield what a file holds; reading ends with a finding where the file is damaged.

    Blank lines are skipped, a byte order mark and CRLF are fine, and the suffix tells the compression.
    """
    try:
        with io.BufferedReader(pa.input_stream(path, compression="detect")) as stream:
            whole = stream.read() if LIST_NAME.fullmatch(path) else None
            if whole is not None and whole.removeprefix(BOM).lstrip()[:1] == b"[":
                yield from _items(path, whole.removeprefix(BOM))
            else:
                yield from _lines(stream if whole is None else io.BytesIO(whole))
    except OSError as error:
        if error.errno is not None:  # the system's; what pyarrow finds has no number
            raise
        yield Diagnostic("SG612", f"this file can't be decompressed: {error}", file=path)


def _lines(stream: Iterable[bytes]) -> Iterator[Line]:
    for number, raw in enumerate(stream, 1):
        text = raw.removeprefix(BOM).strip() if number == 1 else raw.strip()
        if text:
            yield Line(number, text)


def _items(path: str, whole: bytes) -> Iterator[Line | Diagnostic]:
    """Yield the items of a JSON list, each with the line that it begins in."""
    try:
        text = whole.decode()
    except UnicodeDecodeError as error:
        span = Span(path, whole.count(b"\n", 0, error.start) + 1, 1, 1)
        yield Diagnostic("SG604", "this line is not UTF-8", span, help="save it as UTF-8")
        return
    try:
        yield from _decoded(text)
    except json.JSONDecodeError as error:
        problem = f"this list is not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        yield Diagnostic("SG602", problem, Span(path, error.lineno, 1, 1))


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


def _skip(text: str, at: int) -> int:
    """Return where the space that begins at `at` ends."""
    match = SPACE.match(text, at)
    return match.end() if match else at
