"""Data files in every form: the same examples for any number of processes, and from the cache."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.console import Console
from silogen_compiler.diagnostics import Refused
from silogen_compiler.emit import add_digest, emit_json
from silogen_config import ResolvedConfig
from silogen_runtime import cache
from silogen_runtime.cache import prepared_file
from silogen_runtime.cli import train_command
from silogen_runtime.data import load_data
from silogen_runtime.prepare import LARGE, Recipe, prepare_file
from silogen_runtime.tokenizer import ChatTokenizer
from tiny import LINES, conversation, resolved_config
from transformers import ByT5Tokenizer

JSONL = "".join(json.dumps(line) + "\n" for line in LINES).encode()
RECIPE = Recipe("ChatConversation", "assistant", None, None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def load(tmp_path, byte_level_model, load_chat):
    """Return a function that loads one data file with these bytes."""

    def loaded(name: str, content: bytes, max_bad_lines: int = 0, **data):
        path = tmp_path / name
        path.write_bytes(content)
        train = {"type": "CONCATENATION", "datasets": [{"path": str(path)}]}
        resolved = resolved_config(tmp_path, model=byte_level_model, data={"train": train, **data})
        config = ResolvedConfig.model_validate(resolved)
        chat = load_chat("byte-level", "chat-ml")
        return load_data(config, chat, Console(quiet=True), max_bad_lines=max_bad_lines)

    return loaded


FORMS = {
    "some.jsonl": JSONL,
    "data.json": JSONL,
    "list.json": json.dumps(LINES, indent=2).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(LINES).encode(),
    "data.jsonl.gz": gzip.compress(JSONL[:500]) + gzip.compress(JSONL[500:]),
    "list.json.gz": gzip.compress(json.dumps(LINES).encode()),
    "data.jsonl.zst": pa.compress(JSONL, codec="zstd", asbytes=True),
    "named-plain.jsonl": gzip.compress(JSONL),
    "named-gzip.jsonl.gz": pa.compress(JSONL, codec="zstd", asbytes=True),
    "windows.jsonl": b"\xef\xbb\xbf" + JSONL.replace(b"\n", b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_file_holds_the_same_examples(load, name):
    expected = load("plain.jsonl", JSONL).train
    train = load(name, FORMS[name]).train
    assert train.examples.to_dict() == expected.examples.to_dict()
    assert len(train.rows) == 16


def test_a_tokenizer_without_a_fast_form_prepares_too(tmp_path):
    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    (tmp_path / "data.jsonl").write_bytes(JSONL)
    chat, recipe = (
        ChatTokenizer(tokenizer, "</s>", uses_bos=False, new_tokens=0),
        RECIPE._replace(loss_on="all"),
    )
    (batch,) = prepare_file(str(tmp_path / "data.jsonl"), recipe, chat, processes=1, advance=lambda _: None)
    first = LINES[0]["messages"]
    assert batch.findings == []
    assert tokenizer.decode(batch.table["input_ids"][0].as_py()) == "".join(
        f"{m['content']}</s>" for m in first
    )


def test_a_very_long_line_is_read(load):
    line = json.dumps(conversation("word " * 100_000, "b")).encode()
    assert load("long.jsonl", JSONL + line + b"\n").train.too_long == 1


LIST = b'[\n {"messages": [\n  {"role": "user", "content": "a"}]}\n\n,\n {"messages": []}]'

DAMAGED = {
    "list.json": (LIST, "SG603: `messages` must not be empty", 6),
    "cut.json": (
        LIST.replace(b"\n\n,", b""),
        r"SG602: this list is not JSON: expected `,` or `\]` \(line 4\)",
        0,
    ),
    "open.json": (LIST[:-1], r"SG602: .* expected `,` or `\]` \(line 6\)", 6),
    "cut-list.json": (FORMS["list.json"][:-40], r"SG602: .* \(line \d+\)", 0),
    "empty.json": (b"[]", "SG601: `.*empty.json` holds no example", 0),
    "latin.json": (b'["a",\n"\xe4"]', r"SG604: this list is not UTF-8 \(line 2\)", 0),
    "cut.jsonl.gz": (gzip.compress(JSONL)[:-20], "SG612: this file can't be decompressed", 0),
    "plain.jsonl.gz": (JSONL, "SG612: this file can't be decompressed", 0),
    "more.json": (b"[]\n\n x", "SG602: this list is not JSON: there is more behind its end", 0),
    "deep.json": (b"[" * 10**5, "SG602: this list is nested too deeply", 0),
    "columns.jsonl": (b"PAR1\x15\x04", "SG616: this is a Parquet file", 0),
    "wide.jsonl": (JSONL.decode().encode("utf-16"), "SG616: this is text in UTF-16", 0),
    "cut.jsonl.zst": (FORMS["data.jsonl.zst"][:-9], "SG612: this file can't be decompressed", 0),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(load, tmp_path, name):
    content, said, line = DAMAGED[name]
    with pytest.raises(Refused, match=said) as refused:
        load(name, content)
    finding = refused.value.diagnostics[0]
    assert (finding.span.line if finding.span else 0) == line
    assert (finding.span.file if finding.span else finding.file) == str(tmp_path / name)


BAD = b"not json\n" + JSONL + b'{"messages": [{"role": "user"}]}\n'


def test_as_many_bad_lines_as_allowed_are_left_out_with_a_warning_each(load):
    data = load("bad.jsonl", BAD, max_bad_lines=2)
    assert len(data.train.rows) == 16
    assert [(finding.code, finding.span.line) for finding in data.diagnostics] == [
        ("SG615", 1),
        ("SG615", 18),
    ]
    assert data.diagnostics[1].message == "left out: `messages[0].content` is missing"


def test_more_bad_lines_than_allowed_end_the_run(load):
    with pytest.raises(Refused) as refused:
        load("bad.jsonl", BAD, max_bad_lines=1)
    assert [finding.code for finding in refused.value.diagnostics] == ["SG602", "SG603"]


def test_a_file_of_bad_lines_only_is_empty(load):
    with pytest.raises(Refused, match="SG601"):
        load("bad.jsonl", b"not json\n", max_bad_lines=5)


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut-list.json", "latin.json"])
def test_a_damaged_file_is_no_bad_line(load, name):
    content, said, _ = DAMAGED[name]
    with pytest.raises(Refused, match=said):
        load(name, content, max_bad_lines=5)


def test_bad_lines_are_allowed_on_the_command_line(tmp_path, byte_level_model):
    resolved = resolved_config(tmp_path, model=byte_level_model, args={"max_steps": 1})
    (tmp_path / "data.jsonl").write_bytes(BAD)
    (tmp_path / "run.json").write_text(emit_json(add_digest(resolved), {}))
    refused = CliRunner().invoke(train_command, [str(tmp_path / "run.json")])
    assert refused.exit_code == 4
    assert "error[SG602]: this line is not JSON" in refused.stderr
    done = CliRunner().invoke(train_command, [str(tmp_path / "run.json"), "--max-bad-lines", "2"])
    assert done.exit_code == 0, done.output
    assert "warning[SG615]" in done.stderr


@pytest.fixture
def large(tmp_path):
    """Return a file that is large enough for several processes, with findings in several batches."""
    path = tmp_path / "large.jsonl"
    rest = {"tags": ["x" * 1500]}  # bytes that are no tokens
    lines = [json.dumps(conversation(f"{number}", "b") | rest) for number in range(3200)]
    lines[5] = lines[2100] = "no json"
    path.write_text("\n".join(lines))
    assert path.stat().st_size > LARGE
    return str(path)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_the_number_of_processes_changes_nothing(large, load_chat, tmp_path, monkeypatch):
    chat = load_chat("byte-level", "chat-ml")
    results = []
    for processes in (1, 3):
        monkeypatch.setattr(cache.datasets.config, "HF_DATASETS_CACHE", tmp_path / f"cache-{processes}")
        told = []
        file = prepared_file(large, RECIPE, chat, processes=processes, advance=told.append)
        results.append((file.examples.to_dict(), file.findings, told))
    assert results[0] == results[1]
    assert [finding.span.line for finding in results[0][1]] == [6, 2101]
    assert results[0][0]["line"][:6] == [1, 2, 3, 4, 5, 7]


def entries(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "silogen").iterdir())


def test_a_file_is_prepared_once_under_any_name(load, tmp_path, load_chat):
    first = load("bad.jsonl", BAD, max_bad_lines=2)
    again = load("moved.jsonl", BAD, max_bad_lines=2)
    assert len(entries(tmp_path)) == 1
    assert again.train.examples.to_dict() == first.train.examples.to_dict()
    assert {finding.span.file for finding in again.diagnostics} == {str(tmp_path / "moved.jsonl")}
    told = []
    chat = load_chat("byte-level", "chat-ml")
    prepared_file(str(tmp_path / "moved.jsonl"), RECIPE, chat, processes=1, advance=told.append)
    assert told == []


def test_whatever_decides_the_tokens_makes_another_entry(load, tmp_path, load_chat):
    load("some.jsonl", JSONL)
    load("some.jsonl", JSONL, loss_on="all")
    load("some.jsonl", JSONL, length_handling="truncate", max_length=30)
    load("some.jsonl", JSONL, length_handling="truncate", max_length=31)
    load("some.jsonl", JSONL + b"\n")
    for model, template in (("byte-level", "poro"), ("bos", "chat-ml")):
        chat = load_chat(model, template)
        prepared_file(str(tmp_path / "some.jsonl"), RECIPE, chat, processes=1, advance=lambda _: None)
    assert len(entries(tmp_path)) == 7
    load("some.jsonl", JSONL, max_length=31)  # filters, which comes later
    assert len(entries(tmp_path)) == 7


def prepare(path, chat) -> int:
    return len(prepared_file(path, RECIPE, chat, processes=1, advance=lambda _: None).examples)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_processes_that_prepare_at_once_share_one_entry(tmp_path, load_chat, large):
    chat = load_chat("byte-level", "chat-ml")
    with ProcessPoolExecutor(3, multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(prepare, [large] * 3, [chat] * 3)) == [3198] * 3
    assert len(entries(tmp_path)) == 1


def flip(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / name).write_bytes(content)


DAMAGES = {
    "other rows": lambda entry: flip(entry, "rows.arrow"),
    "rows cut off": lambda entry: (entry / "rows.arrow").write_bytes(b""),
    "other findings": lambda entry: (entry / "findings.json").write_text("[]"),
    "nothing in it": lambda entry: [file.unlink() for file in entry.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_of_the_cache_is_written_anew(load, tmp_path, damage):
    expected = load("some.jsonl", JSONL).train.examples.to_dict()
    (name,) = entries(tmp_path)
    entry = tmp_path / "cache" / "silogen" / name
    whole = {file.name: file.read_bytes() for file in entry.iterdir()}
    damage(entry)
    assert load("some.jsonl", JSONL).train.examples.to_dict() == expected
    assert {file.name: file.read_bytes() for file in entry.iterdir()} == whole
    assert entries(tmp_path) == [name]


def test_what_a_killed_process_left_goes_after_a_day(load, tmp_path):
    left, busy = tmp_path / "cache" / "silogen" / ".left", tmp_path / "cache" / "silogen" / ".busy"
    for folder in (left, busy):
        (folder / "entry").mkdir(parents=True)
    os.utime(left, (0, 0))
    load("some.jsonl", JSONL)
    assert (left.exists(), busy.exists()) == (False, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_names_the_cache(load, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "ROWS", "/dev/full")
    with pytest.raises(Refused, match=f"SG617: .*`{tmp_path}/cache/silogen`: no space left on device"):
        load("some.jsonl", JSONL)
    assert entries(tmp_path) == []
