"""Several files, `extends`, `--set` and `${env:…}`: what wins, where it came from, what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from silogen_compiler import compile_data, compile_file, compile_text
from silogen_compiler.layers.merge import merge
from silogen_compiler.load import Layer, load_text

BASE = (ROOT / "tests" / "cases" / "valid" / "lora.yaml").read_text()
ADAPTER, FIRST = "peft_conf.peft_kwargs", "data_conf.training_data.datasets[0]"

keys = st.sampled_from("abc")
trees = st.recursive(
    st.integers() | st.none() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(keys, trees, max_size=3)


def layer(name, data):
    return load_text(f"{name}.json", json.dumps(data))


def merged(below, above):
    """Merge as RFC 7396 does, but for null, which is a value here."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {
        key: merged(below.get(key), above[key]) if key in above else below[key] for key in {**below, **above}
    }


def at(data, path):
    for key in path:
        data = data[key]
    return data


@given(st.lists(mappings, min_size=1, max_size=3))
def test_objects_merge_and_the_rest_replaces(datas):
    layers = [layer(number, data) for number, data in enumerate(datas)]
    expected = datas[0]
    for data in datas[1:]:
        expected = merged(expected, data)
    result = merge(layers)
    assert result.data == expected
    for path, mark in result.marks.items():
        number = int(mark.value.file.removesuffix(".json"))
        value, written = at(result.data, path), at(datas[number], path)
        assert value == written or isinstance(value, dict)
        assert not any(_holds(later, path) for later in datas[number + 1 :])


def _holds(data, path):
    """Tell whether a layer sets the value at a path."""
    for key in path:
        if not isinstance(data, (dict, list)) or (isinstance(data, dict) and key not in data):
            return False
        if isinstance(data, list) and key >= len(data):
            return False
        data = data[key]
    return True


@given(mappings, mappings)
def test_merging_changes_neither_layer(below, above):
    first, second = layer("a", below), layer("b", above)
    merge([first, second])
    assert (first.data, second.data) == (below, above)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / f"{name}.yaml").write_text(text)

    return write


def args(compiled):
    assert compiled.resolved is not None, compiled.diagnostics
    return compiled.resolved["trainer"]["args"]


def origin(compiled, *path):
    return compiled.origins["trainer", "args", *path].text


def test_the_last_file_wins_and_is_the_origin(run):
    run(gpu="training_args: {learning_rate: 3e-4}\n", last="training_args: {bf16: true}\n")
    compiled = compile_file("base.yaml", "gpu.yaml", "last.yaml")
    assert args(compiled)["learning_rate"] == 3e-4
    assert args(compiled)["bf16"] is True
    assert origin(compiled, "learning_rate") == "gpu.yaml:1:32"


def test_extends_is_the_same_as_files_in_order(run):
    run(
        gpu="extends: [base.yaml]\ntraining_args: {learning_rate: 3e-4}\n",
        extended="extends: [gpu.yaml, over.yaml]\nrun_conf: {model: other}\n",
        over="training_args: {learning_rate: 4e-4}\n",
        plain="run_conf: {model: other}\n",
    )
    extended, listed = compile_file("extended.yaml"), compile_file("gpu.yaml", "over.yaml", "plain.yaml")
    assert args(extended)["learning_rate"] == 4e-4
    assert extended.resolved == listed.resolved


def test_extends_is_relative_to_its_file(run, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mid.yaml").write_text("extends: [../base.yaml]\n")
    run(top="extends: [deep/mid.yaml]\n")
    assert compile_file("top.yaml").resolved == compile_file("base.yaml").resolved


def test_one_file_twice_is_no_circle(run):
    run(a="extends: [base.yaml]\n", b="extends: [base.yaml]\n", top="extends: [a.yaml, b.yaml]\n")
    assert compile_file("top.yaml").resolved == compile_file("base.yaml").resolved


def test_mistakes_in_several_files_are_told_together(run):
    run(one="a: [", two="b: }")
    found = compile_file("one.yaml", "two.yaml").diagnostics
    assert [(d.code, d.span.file) for d in found] == [("SG103", "one.yaml"), ("SG103", "two.yaml")]


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("training_args.learning_rate=1e-4", ["trainer", "args", "learning_rate"], 1e-4),
        ("training_args.run_name=007", ["trainer", "args", "run_name"], "007"),
        ("method=sft", ["method"], "sft"),
        ("training_args.run_name=null", ["trainer", "args", "run_name"], None),
        ('training_args.run_name="null"', ["trainer", "args", "run_name"], "null"),
        ("training_args.run_name=a: b #c", ["trainer", "args", "run_name"], "a: b #c"),
        ("training_args.run_name=[draft", ["trainer", "args", "run_name"], "[draft"),
        ("training_args.report_to=[tensorboard]", ["trainer", "args", "report_to"], ["tensorboard"]),
        (f"{ADAPTER}.target_modules=[k, q]", ["peft", "kwargs", "target_modules"], ["k", "q"]),
        (f'{ADAPTER}.rank_pattern."0.q_proj"=4', ["peft", "kwargs", "rank_pattern", "0.q_proj"], 4),
        (f"{FIRST}.path=b.jsonl", ["data", "train", "datasets", 0, "path"], "b.jsonl"),
        ("overrides.lr_multiplier=2", ["trainer", "args", "learning_rate"], 4e-5),
    ],
)  # fmt: skip
def test_a_setting_is_typed_by_the_schema(setting, path, value):
    compiled = compile_text("run.yaml", BASE, settings=(setting,))
    assert compiled.resolved is not None, compiled.diagnostics
    assert at(compiled.resolved, path) == value


@given(st.floats(1e-7, 1e-2))
def test_a_setting_is_the_same_as_the_key_in_the_file(rate):
    text = BASE.replace("learning_rate: 2e-5", f"learning_rate: {rate!r}")
    setting = f"training_args.learning_rate={rate!r}"
    assert compile_text("a.yaml", BASE, settings=(setting,)).resolved == compile_text("a.yaml", text).resolved


def test_later_settings_win_and_name_their_place():
    settings = ("training_args.seed=1", "training_args.seed=2")
    compiled = compile_text("run.yaml", BASE, settings=settings)
    assert args(compiled)["seed"] == 2
    assert origin(compiled, "seed") == "--set:2:20"


def test_a_file_sets_text_or_a_section(run, tmp_path):
    (tmp_path / "name.txt").write_text("night run\n")
    run(adapter="peft_type: IA3\npeft_kwargs: {target_modules: [k_proj], feedforward_modules: []}\n")
    files = ("training_args.run_name=name.txt", "peft_conf=adapter.yaml")
    plain = BASE[: BASE.index("peft_conf")] + "peft_conf: {}\n" + BASE[BASE.index("run_conf") :]
    compiled = compile_text("run.yaml", plain, setting_files=files)
    assert args(compiled)["run_name"] == "night run"
    assert compiled.resolved["peft"]["class"] == "IA3Config"
    assert compiled.origins["peft", "kwargs", "target_modules"].text == "adapter.yaml:2:31"


@pytest.mark.parametrize(
    ("text", "environment", "value"),
    [
        ("${env:RUN}", {"RUN": "one"}, "one"),
        ("a-${env:RUN}-${env:N:-2}", {"RUN": "one"}, "a-one-2"),
        ("${env:RUN:-two words}", {}, "two words"),
        ("${env:RUN:-two}", {"RUN": ""}, "two"),
        ("${env:RUN}x", {"RUN": ""}, "x"),
        ("$${env:RUN}", {"RUN": "one"}, "${env:RUN}"),
        ("${env:RUN}", {"RUN": "${env:OTHER}"}, "${env:OTHER}"),
    ],
)
def test_a_reference_is_filled_in(text, environment, value):
    setting = f"training_args.run_name='{text}'"
    compiled = compile_text("run.yaml", BASE, settings=(setting,), environment=environment)
    assert args(compiled)["run_name"] == value


def test_a_reference_is_always_text():
    setting = "training_args.learning_rate='${env:LR}'"
    compiled = compile_text("run.yaml", BASE, settings=(setting,), environment={"LR": "1e-4"})
    assert [d.code for d in compiled.diagnostics] == ["SG203"]


@pytest.mark.parametrize("name", ["RUN", "CHECKPOINTS_PATH"])
def test_a_variable_that_is_not_text_is_refused(name):
    settings = ("training_args.run_name='${env:RUN}'",) if name == "RUN" else ()
    compiled = compile_text("run.yaml", BASE, settings=settings, environment={name: "a\udcff"})
    assert [d.message for d in compiled.diagnostics] == [f"the environment variable `{name}` is not UTF-8"]


def test_a_token_stays_a_reference_and_is_not_looked_up():
    setting = "run_conf.model_args.token='${env:MY_TOKEN}'"
    environment = {"MY_TOKEN": "hf_secret"}
    compiled = compile_text("run.yaml", BASE, settings=(setting,), environment=environment)
    assert compiled.resolved["model"]["from_pretrained"]["token"] == "${env:MY_TOKEN}"
    assert "hf_secret" not in str(compiled)


def test_plain_data_compile_like_a_file():
    data = load_text("run.yaml", BASE).data
    assert compile_data(data).resolved == compile_text("run.yaml", BASE).resolved
    assert isinstance(load_text("run.yaml", BASE), Layer)
