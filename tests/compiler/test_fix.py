"""Fixes: what they change in a file, what they leave, and the commands that make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cases import examples, inputs, settings_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from silogen_compiler.commands.fix import write_fixed
from silogen_compiler.diagnostics import Edit
from silogen_compiler.edit import edit_text
from silogen_compiler.fix import fix_configs
from silogen_compiler.load import load_text
from silogen_compiler.pipeline import compile_file, compile_text

ALL = {
    **{f"valid/{name}": path for name, path in inputs("valid").items()},
    **{f"invalid/{name}": path for name, path in inputs("invalid").items()},
    **examples(),
}


def fixed(text, suffix=".yaml", **options):
    """Return the text of a config after its fixes, and what they come to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"run{suffix}")
        path.write_bytes(text.encode())
        result = fix_configs([str(path)], environment={}, **options)
    return result.texts.get(str(path), (text, text))[1], result


# Over all cases


@pytest.mark.parametrize("unsafe", [False, True], ids=["safe", "unsafe"])
@pytest.mark.parametrize("name", ALL)
def test_a_case_keeps_its_meaning_and_its_other_lines(name, unsafe, tmp_path, monkeypatch):
    path = ALL[name]
    options = {"environment": {}, **settings_of(path)}
    monkeypatch.chdir(path.parent)
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    before = compile_file(str(copy), **options)
    result = fix_configs([str(copy)], unsafe=unsafe, **options)
    write_fixed(result)
    after = compile_file(str(copy), **options)
    assert before.resolved is None or after.resolved == before.resolved
    assert _errors(after) <= _errors(before) or before.resolved is None
    assert not unsafe or not [d for d in after.diagnostics if d.code in ("SG401", "SG402", "SG404") and d.fix]
    _assert_only_named_lines_change(path.read_bytes(), copy.read_bytes(), result)
    again = fix_configs([str(copy)], unsafe=unsafe, **options)
    assert again.texts == {}
    assert again.fixed == []


def _errors(compiled):
    return {(d.code, d.message) for d in compiled.diagnostics if d.severity == "error"}


def _assert_only_named_lines_change(before, after, result):
    """Every line that goes names what a fix is about, and every comment on a line of its own stays."""
    old, new = before.split(b"\n"), after.split(b"\n")
    edits = [edit for finding in result.fixed for edit in finding.diagnostic.fix.edits]
    names = {str(name).encode() for edit in edits for name in (*edit.path[-2:], edit.key)}
    kept = [line for line in old if line in new]
    assert [line for line in new if line in old] == kept
    assert all(any(name in line for name in names) for line in {*old} ^ {*new})
    assert [line for line in old if line.lstrip()[:1] == b"#"] == [x for x in new if x.lstrip()[:1] == b"#"]


# Exact texts, however the file is written

HEAD = """\
data_conf: {training_data: {type: CONCATENATION, datasets: [{path: a}]}, validation_data: {type: AUTO_SPLIT}}
batchsize_conf: {total_train_batch_size: 16, max_per_device_train_batch_size: 4}
peft_conf: {peft_type: NO_PEFT}
run_conf: {model: m}
sft_args: {max_seq_length: 1024}
"""

# Entries of `training_args` and what becomes of them; None where they are removed.
ENTRIES = [
    (("learning_rate", "2e-5"), ("learning_rate", "2e-5")),
    (("evaluation_strategy", "'epoch'"), ("eval_strategy", "'epoch'")),
    (("warmup_ratio", "0.10"), ("warmup_steps", "0.10")),
    (("no_cuda", "true"), ("use_cpu", "true")),
    (("adafactor", "true"), ("optim", "adafactor")),
    (("include_inputs_for_metrics", "true"), ("include_for_metrics", "[inputs]")),
    (("push_to_hub_token", "${env:HF_TOKEN}"), ("hub_token", "${env:HF_TOKEN}")),
    (("logging_steps", '"7"'), ("logging_steps", "7")),
    (("weight_decay", '"1e-3"'), ("weight_decay", "1e-3")),
    (("bf16", "no"), ("bf16", "false")),
    (("run_name", "2024"), ("run_name", '"2024"')),
    (("fp16_backend", "apex"), None),
    (("use_ipex", "false"), None),
    (("overwrite_output_dir", "true"), None),
]
entries = st.lists(st.sampled_from(ENTRIES), min_size=1, unique_by=lambda pair: pair[0][0])
newlines = st.sampled_from(["\n", "\r\n"])
comments = st.sampled_from(["", "", " # why", "   # `evaluation_strategy: no` was worse", " #"])
gaps = st.sampled_from([(), (), ("",), ("# about the next",), ("# {indent}", "", "#no_cuda: false")])


@st.composite
def blocks(draw):
    """Draw the lines of `training_args` in block style, and those that are expected."""
    indent = " " * draw(st.integers(1, 7))
    properties = draw(st.sampled_from(["", " &args", " !!map", " &a !!map"]))
    top = draw(comments)
    before, after, kept = [], [], 0
    for old, new in draw(entries):
        quote, space = draw(st.sampled_from(["", '"', "'"])), draw(st.sampled_from(["", " "]))
        gap, comment, wide = draw(gaps), draw(comments), draw(st.sampled_from([" ", "   "]))
        lines = [line and indent + line for line in gap]
        before += [*lines, f"{indent}{quote}{old[0]}{quote}{space}:{wide}{old[1]}{comment}"]
        after += lines
        if new:
            kept += 1
            after.append(f"{indent}{quote}{new[0]}{quote}{space}:{wide}{new[1]}{comment}")
    empty = "" if kept else " {}"
    return [f"training_args:{properties}{top}", *before], [f"training_args:{properties}{empty}{top}", *after]


@st.composite
def flows(draw):
    """Draw `training_args` between braces, on one line or on several."""
    pairs = [pair for pair in draw(entries) if "{" not in pair[0][1]]  # braces would need quotes here
    apart, colon = draw(st.sampled_from([", ", ",", " , ", ",\n    "])), draw(st.sampled_from([": ", ":  "]))
    return [
        [f"training_args: {{{apart.join(f'{k}{colon}{v}' for k, v in side)}}}" for side in [half]]
        for half in ([old for old, _ in pairs], [new for _, new in pairs if new])
    ]


@settings(deadline=None)
@given(st.one_of(blocks(), flows()), newlines, st.booleans(), st.booleans())
def test_yaml_is_changed_where_it_has_to_be(sections, newline, ended, first):
    texts = []
    for lines in sections:
        section, head = "\n".join(lines), HEAD.rstrip("\n")
        text = f"{section}\n{head}" if first else f"{head}\n{section}"
        texts.append((text + ("\n" if ended else "")).replace("\n", newline))
    before, expected = texts
    after, result = fixed(before)
    assert after == expected
    assert fixed(after)[0] == after
    resolved = compile_text("run.yaml", before, environment={}).resolved
    assert resolved is None or result.compiled[0].resolved == resolved


@settings(deadline=None)
@given(entries, st.sampled_from([None, 1, 2, "\t"]))
def test_json_is_changed_where_it_has_to_be(pairs, indent):
    pairs = [(old, new) for old, new in pairs if not new or not new[1].startswith("[")]
    before, expected = (
        json.dumps({**_read(HEAD), "training_args": dict(half)}, indent=indent) for half in _halves(pairs)
    )
    after, _ = fixed(before, ".json")
    assert after.replace("1e-3", "0.001") == expected
    assert fixed(after, ".json")[0] == after


@settings(deadline=None)
@given(entries, newlines, st.sampled_from([" = ", "=", "   =  "]), comments, st.booleans())
def test_toml_is_changed_where_it_has_to_be(pairs, newline, equals, comment, dotted):
    assume(not dotted or any(new for _, new in pairs))  # the section is gone with its last dotted key
    start, header = ("training_args.", "") if dotted else ("", "[training_args] # x\n")
    texts = []
    for half in _halves(pairs):
        head = "".join(f"{key} = {_toml(value)}\n" for key, value in _read(HEAD).items())
        lines = "".join(f"{start}{key}{equals}{_toml(value)}{comment}\n" for key, value in half)
        texts.append(f"{head}# about\n{header}{lines}".replace("\n", newline))
    before, expected = texts
    after, _ = fixed(before, ".toml")
    assert after.replace("1e-3", "0.001") == expected
    assert fixed(after, ".toml")[0] == after


def _halves(pairs):
    """Return the entries before and after, with their values as data."""
    for half in ([old for old, _ in pairs], [new for _, new in pairs if new]):
        yield [(key, _read(f"v: {value}")["v"]) for key, value in half]


def _read(text):
    return load_text("a.yaml", text).data


def _toml(value):
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


# What YAML allows beside plain sections


@pytest.mark.parametrize(
    ("before", "edits", "after"),
    [
        ("a: {p: 1, q: 2} # c\n", [Edit(("a", "p")), Edit(("a", "q"))], "a: {} # c\n"),
        (
            "a: {\n  p: 1, # one\n  # on q\n  q: 2 # two\n}\n",
            [Edit(("a", "p"))],
            "a: {\n  # on q\n  q: 2 # two\n}\n",
        ),
        ("a: {\n  p: 1, # one\n  q: 2 # two\n}\n", [Edit(("a", "q"))], "a: {\n  p: 1, # one\n}\n"),
        ("a: {\n  p: 1 # one\n}\n", [Edit(("a", "q"), value=2)], "a: {\n  p: 1, # one\n  q: 2\n}\n"),
        ("a:\n- k: 1\n  m: 2\n", [Edit(("a", 0, "k"))], "a:\n- m: 2\n"),
        ("a:\n- k: 1\n  # on m\n  m: 2\n", [Edit(("a", 0, "k"))], "a:\n-\n  # on m\n  m: 2\n"),
        ("a:\n  - k: 1 # c\n", [Edit(("a", 0, "k"))], "a:\n  - {} # c\n"),
        ("a:\n  - 1\n  - 2\n", [Edit(("a", 0))], "a:\n  - 2\n"),
        ("a:\n  - 1\nb: 1\n", [Edit(("a", 0))], "a: []\nb: 1\n"),
        ("a: &x # c\n  k: |\n    text\n\nb: *x\n", [Edit(("a", "k"))], "a: &x {} # c\n\nb: *x\n"),
        ("a: &x {k: 1}\nb: *x\n", [Edit(("b", "k"), "m")], "a: &x {m: 1}\nb: *x\n"),
        ("a: &x {k: 1}\nb:\n  <<: *x\n", [Edit(("b", "k"), "m")], "a: &x {m: 1}\nb:\n  <<: *x\n"),
        ("a: &x 1\nb: *x # c\n", [Edit(("b",), value=2)], "a: &x 1\nb: 2 # c\n"),
        ("a: !!str 1 # c\n", [Edit(("a",), value="b c")], "a: !!str b c # c\n"),
        ("a:\nb: 1", [Edit(("a", "k", "m"), value=1)], "a: {k: {m: 1}}\nb: 1"),
        (
            "a:\n   k: 1 # c\nb: 1",
            [Edit(("a", "k")), Edit(("b2", "k"), value=1)],
            "a: {}\nb: 1\nb2:\n  k: 1 # c",
        ),
        (
            "a: 1e-5 # c\nb:\n  m: 1\n",
            [Edit(("a",)), Edit(("b", "a"), value=1e-5)],
            "b:\n  m: 1\n  a: 1e-5 # c\n",
        ),
        ("a: 1\n", [Edit(("a",))], "{}\n"),
        ("é: 'ö'\n\U0001f600: 1 # ☃\n", [Edit(("\U0001f600",), "k", 2)], "é: 'ö'\nk: 2 # ☃\n"),
        ("? a\n: 1\nb: 2\n", [Edit(("a",))], None),
        ("a: 1\nb: 2\n", [Edit(("a",), "b")], None),
        ("a:\n- 1\n", [Edit(("a", "k"), value=1)], None),
        ("a: ${env:X}\n", [Edit(("a",), value=1)], None),
    ],
)
def test_edits_of_yaml(before, edits, after):
    assert edit_text("a.yaml", before, edits) == after


@given(st.data())
def test_an_edit_of_json_is_that_of_its_data(data):
    tree = data.draw(st.dictionaries(st.text(), st.dictionaries(st.text(), st.integers()), min_size=1))
    section = data.draw(st.sampled_from([*tree]))
    key = data.draw(st.sampled_from([*tree[section], "new"]))
    text = json.dumps(
        tree, indent=data.draw(st.sampled_from([None, 2])), ensure_ascii=data.draw(st.booleans())
    )
    assert json.loads(edit_text("a.json", text, [Edit((section, key), value=7)])) == {
        **tree,
        section: {**tree[section], key: 7},
    }
    if key in tree[section]:
        del tree[section][key]
        assert json.loads(edit_text("a.json", text, [Edit((section, key))])) == tree


# Guards

BASE = f"{HEAD}training_args:\n  learning_rate: 2e-5 # base\n"


def write(folder, **texts):
    """Write files and return their names, with the folder as the working directory."""
    for name, text in texts.items():
        Path(folder, f"{name}.yaml").write_text(text, "utf-8")
    return [f"{name}.yaml" for name in texts]


def test_a_file_that_others_extend_is_fixed_only_where_they_all_stay_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = f"{BASE}  evaluation_strategy: epoch\n"
    top = "extends: [base.yaml]\ntraining_args:\n  evaluation_strategy: steps # top\n"
    names = write(tmp_path, base=base, top=top)
    before = [compile_file(name).resolved for name in names]
    result = fix_configs(names)
    write_fixed(result)
    assert Path("base.yaml").read_text() == base.replace("evaluation", "eval")
    assert Path("top.yaml").read_text() == top.replace("evaluation", "eval")
    assert [compile_file(name).resolved for name in names] == before


def test_an_older_key_below_a_newer_one_keeps_its_meaning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = f"{BASE}  evaluation_strategy: epoch\n"
    write(tmp_path, base=base, top="extends: [base.yaml]\ntraining_args: {eval_strategy: steps}\n")
    write_fixed(fix_configs(["top.yaml"]))
    assert Path("base.yaml").read_text() == base.replace("evaluation", "eval")


def test_what_a_setting_hides_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = f"{BASE}  adafactor: true\n"
    write(tmp_path, base=base, top="extends: [base.yaml]\ntraining_args: {adafactor: false}\n")
    result = fix_configs(["top.yaml"])
    assert result.texts == {}
    assert [f.diagnostic.code for f in result.refused] == ["SG402"]


def test_what_two_sections_share_is_changed_for_both_or_for_none():
    shared = HEAD.replace("{type: CONCATENATION", "&data {type: CONCATENATION, data_type: DirectPreference")
    shared = shared.replace("{type: AUTO_SPLIT}", "{<<: *data}") + "training_args: {eval_strategy: epoch}\n"
    after, result = fixed(shared)
    assert after == shared.replace(", data_type: DirectPreference", "")
    assert result.compiled[0].diagnostics == []
    args = "training_args: &args {learning_rate: 2e-5, logging_steps: 5, no_cuda: true}\n"
    other = args + HEAD.replace("model: m", "model: m, model_args: {max_memory: *args}")
    assert compile_text("run.yaml", other).resolved is not None
    after, result = fixed(other)
    assert after == other
    assert [f.diagnostic.code for f in result.refused] == ["SG401"]


def test_a_rename_that_brings_a_new_error_is_left_out():
    after, result = fixed(f"{BASE}quant_conf: {{bits: 4}}\n", unsafe=True)
    assert after == f"{BASE}quant_conf: {{bits: 4}}\n"
    assert [f.diagnostic.code for f in result.refused] == ["SG201"]


def test_a_value_of_the_environment_and_of_the_command_line_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, run=f"{BASE}  fsdp_min_num_params: '${{env:SIZE:-100}}'\n")
    settings = ("training_args.no_cuda=true",)
    result = fix_configs(["run.yaml"], settings=settings, environment={})
    assert result.texts == {}
    assert [f.diagnostic.code for f in result.refused] == ["SG401"]


# The commands


def silogen(*args, **kwargs):
    code = "from silogen_compiler.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, **kwargs)


@pytest.fixture
def run(tmp_path):
    """A config with two findings that are safe to fix and one that is not, written as few people do."""
    path = tmp_path / "run.yaml"
    text = "\ufeff" + BASE + '  no_cuda: true # "cpu"\n  bf16: "no"\n  epochs: 2'
    path.write_bytes(text.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    return path


FIXED = BASE + '  use_cpu: true # "cpu"\n  bf16: false\n  epochs: 2'


@pytest.mark.parametrize("command", [["fix"], ["check", "--fix"]], ids=" ".join)
def test_fix_writes_the_file_and_prints_what_is_left(run, command):
    link = run.with_name("link.yaml")
    link.symlink_to(run)
    result = silogen(*command, link)
    assert result.returncode == 1
    assert run.read_bytes() == ("\ufeff" + FIXED).replace("\n", "\r\n").encode()
    assert link.is_symlink()
    assert run.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in run.parent.iterdir()) == ["link.yaml", "run.yaml"]
    printed = result.stderr.decode()
    assert printed.startswith(f"{link}: 2 fixed, 2 left (1 fixable with --unsafe)\n")
    assert "\n  SG401 rename `no_cuda` to `use_cpu`\n" in printed
    assert "error[SG201]: unknown key `epochs`" in printed
    assert printed.endswith("2 findings fixed, 2 left\n")  # also a warning that has no fix
    assert silogen("fix", "--unsafe", link).returncode == 0
    assert run.read_bytes().endswith(b"\r\n  num_train_epochs: 2")


def test_a_diff_writes_nothing_and_a_patch_takes_it(run):
    before = run.read_bytes()
    for command in (["fix", "--diff", "--unsafe"], ["check", "--diff", "--unsafe"]):
        result = silogen(*command, run.name, cwd=run.parent)
        assert result.returncode == 3
        assert run.read_bytes() == before
        lines = result.stdout.decode().split("\n")
        assert lines[:2] == ["--- run.yaml", "+++ run.yaml"]
        assert "-  epochs: 2" in lines
        assert lines[-2] == "\\ No newline at end of file"
    silogen("fix", "--unsafe", run)
    assert silogen("fix", "--diff", run).returncode == 0


def test_standard_input_is_printed_with_its_fixes():
    result = silogen("fix", "-", input=f"{BASE}  no_cuda: true\n".encode())
    assert result.returncode == 0
    assert result.stdout.decode() == f"{BASE}  use_cpu: true\n"
    unchanged = silogen("fix", "-", input=BASE.encode())
    assert unchanged.stdout.decode() == BASE


def test_each_edit_goes_to_the_file_that_it_is_about(tmp_path):
    write(
        tmp_path,
        base=f"{BASE}  no_cuda: true # base\n",
        top="extends: [base.yaml]\ntraining_args:\n  warmup_ratio: 0.1 # top\n",
    )
    assert silogen("fix", "top.yaml", cwd=tmp_path).returncode == 0
    assert (tmp_path / "base.yaml").read_text().endswith("  use_cpu: true # base\n")
    assert (tmp_path / "top.yaml").read_text().endswith("  warmup_steps: 0.1 # top\n")


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path):
    assert silogen("fix", tmp_path / "none.yaml").returncode == 1
    if os.geteuid():
        (name,) = write(tmp_path, run=f"{BASE}  no_cuda: true\n")
        tmp_path.chmod(0o500)
        result = silogen("fix", tmp_path / name)
        assert result.returncode == 4
        assert "cannot write" in result.stderr.decode()


def test_check_says_what_can_be_fixed(run):
    printed = silogen("check", run).stderr.decode()
    assert "\n2 fixable with silogen fix, 1 fixable with silogen fix --unsafe\n" in printed
    assert "= fix: rename `no_cuda` to `use_cpu` (silogen fix)\n" in printed
    assert "= fix: rename `epochs` to `num_train_epochs` (silogen fix --unsafe)\n" in printed
