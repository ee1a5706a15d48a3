"""Prepared data files, kept where the libraries keep theirs, under a name made of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import datasets
import pyarrow as pa
import transformers
from datasets import Dataset
from silogen_compiler.diagnostics import Diagnostic, Span
from silogen_compiler.files import sync

from silogen_runtime.prepare import prepare_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_runtime.prepare import Recipe
    from silogen_runtime.tokenizer import ChatTokenizer

VERSION = 1  # raised whenever the same input gives other tokens

ROWS, FINDINGS = "rows.arrow", "findings.json"


class Prepared(NamedTuple):
    """The examples of one file as tokens, and what is wrong with its lines."""

    path: str
    examples: Dataset
    findings: list[Diagnostic]


def prepared_file(
    path: str, recipe: Recipe, chat: ChatTokenizer, *, processes: int, advance: Callable[[int], None]
) -> Prepared:
    """Return what the file becomes, from the cache where it was prepared before."""
    folder = cache_folder() / key_of(path, recipe, chat)
    if not folder.is_dir():
        _fill(folder, path, recipe, chat, processes=processes, advance=advance)
    findings = json.loads((folder / FINDINGS).read_bytes())
    return Prepared(
        path, Dataset.from_file(str(folder / ROWS)), [_finding(path, entry) for entry in findings]
    )


def cache_folder() -> Path:
    """Return the folder for prepared data, which HF_DATASETS_CACHE and HF_HOME move."""
    return Path(datasets.config.HF_DATASETS_CACHE, "silogen")


def key_of(path: str, recipe: Recipe, chat: ChatTokenizer) -> str:
    """Return the digest of the file's content and of everything else that decides its tokens."""
    with Path(path).open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    tokenizer = chat.tokenizer
    backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else _saved(chat)
    is_list = "".join(Path(path).suffixes[-2:])  # how the file is read
    parts = [VERSION, transformers.__version__, content, is_list, recipe, backend]
    parts += [tokenizer.chat_template, tokenizer.special_tokens_map, chat.assistant_end, chat.uses_bos]
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


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
    """Write the prepared file; of several processes that do so at once, the first counts."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
        new = Path(temporary, folder.name)
        new.mkdir()
        findings: list[Diagnostic] = []
        with pa.OSFile(str(new / ROWS), "wb") as file, pa.ipc.new_stream(file, recipe.schema) as rows:
            for batch in prepare_file(path, recipe, chat, processes=processes, advance=advance):
                rows.write_table(batch.table)
                findings += batch.findings
        (new / FINDINGS).write_text(json.dumps([_entry(finding) for finding in findings]), "utf-8")
        for name in (ROWS, FINDINGS):
            sync(new / name)
        try:
            os.rename(new, folder)  # noqa: PTH104 - Path.rename says no more
        except OSError:
            if not folder.is_dir():
                raise
        sync(folder.parent)


def _entry(finding: Diagnostic) -> list[object]:
    """Return a finding without its file, which may have another name the next time."""
    line = finding.span and finding.span.line
    return [finding.code, finding.message, line, finding.help]


def _finding(path: str, entry: list[object]) -> Diagnostic:
    code, message, line, help_text = entry
    span = Span(path, int(str(line)), 1, 1) if line else None
    return Diagnostic(str(code), str(message), span, help=str(help_text), file="" if span else path)
