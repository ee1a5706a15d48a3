"""Data files: what is wrong with them, and how they are mixed, split, cut and sorted."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
from rich.console import Console
from silogen_compiler.diagnostics import Refused
from silogen_config import ResolvedConfig
from silogen_runtime.chat import IGNORED, encode
from silogen_runtime.data import load_data
from silogen_runtime.examples import Conversation, read_example
from silogen_runtime.lines import Line, read_lines
from silogen_runtime.rows import choose_rows
from tiny import LINES, conversation, resolved_config, write_lines

GOOD = json.dumps(LINES[0]).encode()

BAD_LINES = {
    b'{"messages": [': ("SG602", "this line is not JSON: EOF while parsing"),
    b'{"messages": []}': ("SG603", "`messages` must not be empty"),
    b"[1]": ("SG603", "a line must be an object"),
    b'{"text": "x", "messages": [{"role": "user", "content": "x"}]}': ("SG603", "`text` is not a known key"),
    b'{"messages": [{"role": "user"}]}': ("SG603", "`messages[0].content` is missing"),
    b'{"messages": [{"role": "user", "content": null}]}': ("SG603", "`messages[0].content` must be a string"),
    b'{"messages": {"role": "user"}}': ("SG603", "`messages` must be a list"),
    b'{"messages": [{"role": "", "content": ""}]}': ("SG603", "`messages[0].role` must not be empty"),
    '{"messages": [{"role": "user", "content": "\u00e4"}]}'.encode("latin-1"): (
        "SG604",
        "byte 44 of this line",
    ),
}


def read_file(path):
    """Return the conversations of a file, and what is wrong with it."""
    lines = list(read_lines(str(path)))
    read = [read_example(line, str(path), "ChatConversation") for line in lines if isinstance(line, Line)]
    damage = [line for line in lines if not isinstance(line, Line)]
    examples = [example for example, _ in read if example is not None]
    return examples, [*damage, *(finding for _, findings in read for finding in findings)]


@pytest.mark.parametrize(
    ("line", "expected"), BAD_LINES.items(), ids=[code for code, _ in BAD_LINES.values()]
)
def test_a_bad_line_is_named(tmp_path, line, expected):
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n" + GOOD)
    conversations, findings = read_file(path)
    assert [(finding.code, finding.span.line) for finding in findings] == [(expected[0], 3)]
    assert findings[0].span.file == str(path)
    assert findings[0].message.startswith(expected[1])
    assert [conversation.line for conversation in conversations] == [1, 4]


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_fine(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n  \r\n" + GOOD + b"\r\n")
    conversations, findings = read_file(path)
    assert not findings
    assert [conversation.messages for conversation in conversations] == [LINES[0]["messages"]] * 2


@pytest.fixture
def load(tmp_path, byte_level_model, load_chat):
    def loaded(lines=LINES, **data):
        config = ResolvedConfig.model_validate(
            resolved_config(tmp_path, model=byte_level_model, lines=lines, data=data)
        )
        return load_data(config, load_chat("byte-level", "chat-ml"), Console(quiet=True))

    return loaded


def test_an_empty_file_is_found(resolve, run):
    with pytest.raises(Refused, match="SG601"):
        run(resolve(lines=[]))


def test_a_run_names_the_first_twenty_findings(resolve, run):
    with pytest.raises(Refused) as refused:
        run(resolve(lines=[{"messages": []}] * 33))
    codes = [finding.code for finding in refused.value.diagnostics]
    assert codes == ["SG603"] * 20 + ["SG699"]
    assert refused.value.diagnostics[-1].message.startswith("13 more")


def test_a_conversation_without_assistant_is_left_out_with_a_warning(resolve, run):
    outcome, screen = run(resolve(lines=[*LINES, conversation("Hello?")], args={"max_steps": 1}))
    assert [finding.code for finding in outcome.warnings] == ["SG605"]
    assert "16 examples (1 with nothing to learn: left out)" in screen


def test_a_special_token_in_the_text_is_warned_of(load, load_chat):
    data = load([*LINES, *[conversation("<|im_start|>assistant\nNo<|im_end|>", "b")] * 2])
    told = [(finding.code, finding.message.partition(",")[0], finding.notes) for finding in data.diagnostics]
    assert told == [
        ("SG621", f"a message of `user` holds `{token}`", ("the same in 1 more",))
        for token in ("<|im_start|>", "<|im_end|>")
    ]
    labels = [label for label in data.train.examples[-1]["labels"] if label != IGNORED]
    assert load_chat("byte-level", "chat-ml").tokenizer.decode(labels) == "b<|im_end|>"


def test_an_end_token_in_the_text_is_warned_of(resolve, run):
    lines = [*LINES, *[conversation("Hello?", "Hello<|im_end|> you")] * 3]
    outcome, screen = run(resolve(lines=lines, args={"max_steps": 1}))
    assert [(finding.code, finding.span.line) for finding in outcome.warnings] == [("SG609", 17)]
    assert "data.jsonl:17: assistant turn 1 holds the end token" in screen
    assert "\n  the same in 2 more\n" in screen


@pytest.mark.parametrize("bad", [{1}, {4, 5}, {9}, {1, 6, 9}, set(range(1, 10))])
def test_only_what_the_template_refuses_is_left_out(load_chat, bad):
    shared = load_chat("byte-level", "keep-original")
    chat = replace(shared, tokenizer=copy.deepcopy(shared.tokenizer))
    refuses = "{% if messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}"
    chat.tokenizer.chat_template = refuses + "{% for m in messages %}{{ m.content }}{% endfor %}"
    texts = ["no" if line in bad else f"text {line}" for line in range(1, 10)]
    lines = [
        Conversation([{"role": "user", "content": text}], "a.jsonl", n) for n, text in enumerate(texts, 1)
    ]
    encoded, findings = encode(chat, lines, loss_on="all")
    assert [(finding.code, finding.span.line) for finding in findings] == [("SG607", n) for n in sorted(bad)]
    kept = [None if row is None else chat.tokenizer.decode(row.input_ids) for row in encoded]
    assert kept == [None if text == "no" else text for text in texts]


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", "SG606"),
        ("{% if messages %}{{ raise_exception('roles must alternate') }}{% endif %}", "SG607"),
    ],
)
def test_a_template_that_does_not_fit_the_data_is_found(resolve, run, template, code):
    own = {"name": "own", "template": template, "added_tokens": [], "assistant_end": None}
    with pytest.raises(Refused, match=f"{code}: .*template") as refused:
        run(resolve(tokenizer={"chat_template": own}))
    assert refused.value.diagnostics[0].span.line == 1


LENGTHS = [conversation("a" * size, "b") for size in (60, 5, 30, 10)]


def test_longer_examples_are_left_out_or_cut(load):
    whole = load(LENGTHS).train
    assert (len(whole.rows), whole.too_long) == (4, 0)
    limit = sorted(len(ids) for ids in whole.examples["input_ids"])[2]
    filtered = load(LENGTHS, max_length=limit).train
    assert (filtered.rows, filtered.too_long) == ([1, 2, 3], 1)
    cut = load(LENGTHS, max_length=limit, length_handling="truncate", loss_on="all").train
    assert (cut.rows, cut.too_long) == ([0, 1, 2, 3], 0)
    assert cut.examples["input_ids"][0] == whole.examples["input_ids"][0][:limit]
    assert cut.tokens == sum(len(ids) for ids in cut.examples["input_ids"])


def test_the_example_that_is_shown_is_a_whole_one(load):
    data = load(LENGTHS, max_length=40, length_handling="truncate", loss_on="all")
    assert data.train.rows[0] == 0
    assert f"user\n{'a' * 5}<" in data.sample.text


def test_what_is_cut_to_its_prompt_is_left_out(load):
    cut = load(LENGTHS, max_length=20, length_handling="truncate").train
    assert cut.nothing_learned == 4 - len(cut.rows) > 0


def test_validation_begins_with_the_longest(load, tmp_path):
    path = write_lines(tmp_path / "validation.jsonl", LENGTHS)
    validation = load(validation={"type": "CONCATENATION", "datasets": [{"path": path}]}).validation
    lengths = [len(ids) for ids in validation.examples["input_ids"]]
    assert lengths == sorted(lengths, reverse=True)
    assert len(lengths) == 4


def test_a_share_is_split_off_the_same_way_each_time(load):
    spec = {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 7}
    first, second = load(validation=spec), load(validation=spec)
    assert first.train.rows == second.train.rows
    assert sorted(first.train.rows + first.validation.rows) == list(range(16))
    assert len(first.validation.rows) == 4
    assert load(validation={**spec, "seed": 8}).train.rows != first.train.rows


def test_too_little_data_to_split_or_train_is_found(load):
    with pytest.raises(Refused, match="SG611"):
        load(LINES[:1], validation={"type": "AUTO_SPLIT", "ratio": 0.5, "seed": 1})
    with pytest.raises(Refused, match="SG610: no training example is left: 16 are longer"):
        load(max_length=3)


def rows_of(tmp_path, sizes: list[int], weights: list[float], seed: int = 5) -> list[int]:
    datasets = [{"path": "x", "sampling_weight": weight} for weight in weights]
    train = {"type": "PRECOMPUTE_WEIGHTED_MIX", "datasets": datasets, "seed": seed}
    config = resolved_config(tmp_path, model="x", data={"train": train})
    rows, validation = choose_rows(ResolvedConfig.model_validate(config).data, sizes)
    assert validation == []
    return rows


def test_files_are_joined_in_order(tmp_path):
    config = resolved_config(tmp_path, model="x")
    assert choose_rows(ResolvedConfig.model_validate(config).data, [3, 2]) == ([0, 1, 2, 3, 4], [])


def test_equal_weights_take_turns_until_all_is_used(tmp_path):
    assert rows_of(tmp_path, [4, 2], [1.0, 1.0]) == [0, 4, 1, 5, 2, 4, 3, 5]


def test_weights_set_the_shares(tmp_path):
    rows = rows_of(tmp_path, [400, 400], [3.0, 1.0])
    assert rows == rows_of(tmp_path, [400, 400], [3.0, 1.0])
    assert rows != rows_of(tmp_path, [400, 400], [3.0, 1.0], seed=6)
    assert set(rows) == set(range(800))
    assert 0.7 < sum(row < 400 for row in rows) / len(rows) < 0.8


def test_examples_on_both_sides_of_a_split_are_warned_of(load, tmp_path):
    datasets = [{"path": write_lines(tmp_path / "few.jsonl", LENGTHS[:1])}]
    datasets += [{"path": write_lines(tmp_path / "many.jsonl", LINES)}]
    train = {"type": "PRECOMPUTE_WEIGHTED_MIX", "seed": 1}
    train["datasets"] = [{**file, "sampling_weight": 1.0} for file in datasets]
    split = {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 1}
    data = load(train=train, validation=split)
    shared = {*data.train.rows} & {*data.validation.rows}
    assert shared == {0}  # the one example of the first file, drawn sixteen times
    (finding,) = data.diagnostics
    assert finding.code == "SG618"
    assert finding.message.startswith(f"{data.validation.rows.count(0)} of 8 validation examples")


def test_a_file_without_weight_is_not_read(load, tmp_path):
    path = write_lines(tmp_path / "some.jsonl", LENGTHS)
    datasets = [{"path": path, "sampling_weight": 1.0}, {"path": "nowhere", "sampling_weight": 0.0}]
    train = load(train={"type": "PRECOMPUTE_WEIGHTED_MIX", "datasets": datasets, "seed": 1}).train
    assert train.rows == [0, 1, 2, 3]
