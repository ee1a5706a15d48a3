"""What holds for any input: readers against oracles, arithmetic, and configs with random mistakes."""

from __future__ import annotations

import json
import tomllib

import yaml
from cases import CASES, inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from silogen_compiler.diagnostics import Refused
from silogen_compiler.emit import emit_json, emit_yaml
from silogen_compiler.load import load_text
from silogen_compiler.pipeline import compile_text
from silogen_compiler.render.text import render_text
from silogen_compiler.resolve import largest_divisor
from silogen_compiler.schema import find


def keys_of(characters):
    return st.text(characters, min_size=1, max_size=8).filter(lambda key: key != "<<")


def scalars_of(characters):
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    return st.none() | st.booleans() | numbers | st.text(characters)


def mappings_of(characters):
    keys = keys_of(characters)
    values = st.recursive(
        scalars_of(characters),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    )
    return st.dictionaries(keys, values, max_size=5)


# Without the characters that the library's writer gets wrong.
PLAIN = st.characters(
    exclude_categories=["C", "Z"], include_characters=[" ", *(chr(code) for code in range(0x20))]
)
ANY = st.characters(codec="utf-8")
VALID = [path.read_text("utf-8-sig") for path in inputs("valid").values() if path.suffix == ".yaml"]


@given(mappings_of(ANY))
def test_json_reads_as_the_library_reads_it(data):
    text = json.dumps(data, ensure_ascii=False)
    layer = load_text("a.json", text)
    assert layer.data == data
    assert all(text.split("\n")[0][m.value.column - 1 :] for m in layer.marks.values())


@given(mappings_of(PLAIN), st.booleans())
def test_yaml_reads_what_a_library_wrote(data, flow):
    text = yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True)
    try:
        read = load_text("a.yaml", text).data
    except Refused as refused:
        read = refused
    if isinstance(
        read, Refused
    ):  # the library writes what YAML 1.2 takes for an infinite number: 1e999 as text
        assert {d.code for d in read.diagnostics} == {"SG111"}
    else:
        assert _as_text(read) == _as_text(data)


def _as_text(node):
    """Return the data with scalars as text: YAML 1.1 leaves `1e5` unquoted, which is a number in 1.2."""
    if isinstance(node, dict):
        return {key: _as_text(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_as_text(item) for item in node]
    if isinstance(node, str):
        try:
            node = float(node)
        except ValueError:
            return node
    return str(float(node)) if isinstance(node, (int, float)) and not isinstance(node, bool) else node


@given(mappings_of(ANY).filter(bool))
def test_resolved_yaml_reads_back_in_both_versions_of_yaml(data):
    text = emit_yaml(data, {})
    assert load_text("a.yaml", text).data == data == (yaml.safe_load(text) or {})
    assert json.loads(emit_json(data, {})) == data


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True),
        st.integers() | st.text("ab\"'= #\\"),
        max_size=4,
    )
)
def test_toml_marks_point_at_keys_and_values(data):
    text = "".join(f"{key} = {json.dumps(value)} # note\n" for key, value in data.items())
    layer = load_text("a.toml", text)
    assert layer.data == data == tomllib.loads(text)
    lines = text.split("\n")
    for (key,), mark in layer.marks.items():
        row = lines[mark.key.line - 1]
        assert row[mark.key.column - 1 : mark.key.end - 1] == key
        assert row[mark.value.column - 1 :].startswith(json.dumps(data[key]))


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_largest_divisor(number, limit):
    assert largest_divisor(number, limit) == max(d for d in range(1, limit + 1) if number % d == 0)


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=300, deadline=None)
def test_a_config_with_random_damage_ends_in_findings_with_places(text, data):
    at = data.draw(st.integers(0, len(text)))
    damage = data.draw(
        st.sampled_from(
            ["", " ", "x", ":", "- ", "\t", "{", "]", '"', "&a ", "*a", "!", "\n", "é", "\0", "<<: "]
        )
    )
    length = data.draw(st.integers(0, 3))
    damaged = text[:at] + damage + text[at + length :]
    compiled = compile_text("run.yaml", damaged, environment={})
    lines = damaged.split("\n")
    for diagnostic in compiled.diagnostics:
        assert diagnostic.code
        if diagnostic.span:
            assert 1 <= diagnostic.span.line <= len(lines)
            assert diagnostic.span.column <= len(lines[diagnostic.span.line - 1]) + 1
        else:
            assert diagnostic.file == "run.yaml"
    assert (compiled.resolved is None) == any(d.severity == "error" for d in compiled.diagnostics)
    assert render_text(compiled.diagnostics, compiled.sources).count("[SG") == len(compiled.diagnostics)


@given(
    keys_of(ANY),
    st.sampled_from(["", "training_args", "run_conf", "data_conf", "sft_args"]),
    scalars_of(ANY),
)
def test_any_unknown_key_is_named(key, section, value):
    config = json.loads((CASES / "valid" / "json.json").read_text())
    (config[section] if section else config)[key] = value
    compiled = compile_text("run.json", json.dumps(config), environment={})
    known = key in find((section,) if section else (), {**config, "method": "sft"})["properties"]
    assert known or any(f"unknown key `{key}`" in d.message for d in compiled.diagnostics)


def test_half_a_surrogate_pair_is_refused():
    compiled = compile_text("run.json", '{"method": "\\ud800"}', environment={})
    assert [d.code for d in compiled.diagnostics] == ["SG103"]
