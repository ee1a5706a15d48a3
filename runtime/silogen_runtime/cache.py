"""Prepared data files, kept where the libraries keep theirs, under a name made of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import datasets
import pyarrow as pa
import transformers
from datasets import Dataset
from silogen_compiler.diagnostics import Diagnostic, Refused, Span
from silogen_compiler.files import sync

from silogen_runtime.prepare import prepare_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_runtime.prepare import Recipe
    from silogen_runtime.tokenizer import ChatTokenizer

VERSION = 2  # raised whenever the same input gives other tokens

ROWS, FINDINGS = "rows.arrow", "findings.json"

DAY = 86_400  # seconds after which a folder that was never finished is a killed process's


class Prepared(NamedTuple):
    """The examples of one file as tokens, and what is wrong with its lines."""

    path: str
    examples: Dataset
    findings: list[Diagnostic]


def prepared_file(
    path: str, recipe: Recipe, chat: ChatTokenizer, *, processes: int, advance: Callable[[int], None]
) -> Prepared:
    """Return what the file becomes, from the cache where it was prepared before and is still whole."""
    folder = cache_folder() / key_of(path, recipe, chat)
    while (prepared := _read(path, folder)) is None:
        _fill(folder, path, recipe, chat, processes=processes, advance=advance)
    return prepared


def cache_folder() -> Path:
    """Return the folder for prepared data, which HF_DATASETS_CACHE and HF_HOME move."""
    return Path(datasets.config.HF_DATASETS_CACHE, "silogen")


def _read(path: str, folder: Path) -> Prepared | None:
    """Return an entry of the cache; None where there is none, or it is not as it was written."""
    try:
        entry = json.loads((folder / FINDINGS).read_bytes())
        if entry["rows"] != _digest(folder / ROWS):
            return None
        findings = [_finding(path, finding) for finding in entry["findings"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return Prepared(path, Dataset.from_file(str(folder / ROWS)), findings)


def key_of(path: str, recipe: Recipe, chat: ChatTokenizer) -> str:
    """Return the digest of the file's content and of everything else that decides its tokens."""
    tokenizer = chat.tokenizer
    backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else _saved(chat)
    is_list = "".join(Path(path).suffixes[-2:])  # how the file is read
    parts = [VERSION, transformers.__version__, _digest(Path(path)), is_list, recipe, backend]
    parts += [tokenizer.chat_template, tokenizer.special_tokens_map, chat.assistant_end, chat.uses_bos]
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _saved(chat: ChatTokenizer) -> list[str]:
    """Return the digests of the files that a slow tokenizer is saved as."""
    with tempfile.TemporaryDirectory() as folder:
        chat.tokenizer.save_pretrained(folder)
        files = sorted(Path(folder).rglob("*"))
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]


def _fill(  # noqa: PLR0913 - as prepared_file
    folder: Path,
    path: str,
    recipe: Recipe,
    chat: ChatTokenizer,
    *,
    processes: int,
    advance: Callable[[int], None],
) -> None:
    """Write the prepared file, in place of a damaged one. Refused where the cache can't be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            new = Path(temporary, folder.name)
            new.mkdir()
            findings: list[Diagnostic] = []
            with pa.OSFile(str(new / ROWS), "wb") as file, pa.ipc.new_stream(file, recipe.schema) as rows:
                for batch in prepare_file(path, recipe, chat, processes=processes, advance=advance):
                    rows.write_table(batch.table)
                    findings += batch.findings
            entry = {"rows": _digest(new / ROWS), "findings": [_entry(finding) for finding in findings]}
            (new / FINDINGS).write_text(json.dumps(entry), "utf-8")
            for name in (ROWS, FINDINGS):
                sync(new / name)
            _publish(new, path, folder)
    except OSError as error:
        if error.filename == path:
            raise
        message = f"prepared data can't be kept in `{folder.parent}`: {_problem(error)}"
        help_text = "free space there, or set HF_DATASETS_CACHE to another folder"
        raise Refused(Diagnostic("SG617", message, help=help_text)) from error


def _publish(new: Path, path: str, folder: Path) -> None:
    """Give a new entry its name, unless another process has been faster."""
    if _read(path, folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.rename(new, folder)  # noqa: PTH104 - Path.rename says no more
    except OSError:
        if not _read(path, folder):
            raise
    sync(folder.parent)


def _sweep(parent: Path) -> None:
    """Remove what killed processes have left unfinished."""
    for left in parent.glob(".*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left)


def _problem(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def _entry(finding: Diagnostic) -> list[object]:
    """Return a finding without its file, which may have another name the next time."""
    line = finding.span and finding.span.line
    return [finding.code, finding.message, line, finding.help]


def _finding(path: str, entry: list[object]) -> Diagnostic:
    code, message, line, help_text = entry
    span = Span(path, int(str(line)), 1, 1) if line else None
    return Diagnostic(str(code), str(message), span, help=str(help_text), file="" if span else path)
