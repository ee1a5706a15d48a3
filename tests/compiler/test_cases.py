"""Every case compiles to the output beside it; adding a file adds a test."""

from __future__ import annotations

import pytest
from cases import compile_case, examples, expect, expected, inputs
from silogen_compiler.emit import emit_json, emit_yaml
from silogen_compiler.load import load_text
from silogen_compiler.render.text import render_text

VALID = {**inputs("valid"), **examples()}
INVALID = inputs("invalid")


@pytest.mark.parametrize("name", VALID)
def test_valid(name, monkeypatch, update_cases):
    path = VALID[name]
    compiled = compile_case(path, monkeypatch)
    findings = render_text(compiled.diagnostics, compiled.sources)
    assert compiled.resolved is not None, findings
    text = emit_yaml(compiled.resolved, compiled.origins)
    output = expected(name, path)
    expect(output.with_name(f"{name}.resolved.yaml"), text, update=update_cases)
    expect(output.with_name(f"{name}.txt"), findings, update=update_cases)


@pytest.mark.parametrize("name", INVALID)
def test_invalid(name, monkeypatch, update_cases):
    path = INVALID[name]
    compiled = compile_case(path, monkeypatch)
    assert compiled.resolved is None
    assert any(d.severity == "error" for d in compiled.diagnostics)
    text = render_text(compiled.diagnostics, compiled.sources)
    expect(path.with_name(f"{path.name}.txt"), text, update=update_cases)


@pytest.mark.parametrize("name", VALID)
def test_same_bytes_twice_and_every_form_holds_the_same(name, monkeypatch):
    first, second = (compile_case(VALID[name], monkeypatch) for _ in range(2))
    yaml_text = emit_yaml(first.resolved, first.origins)
    assert yaml_text == emit_yaml(second.resolved, second.origins)
    json_text = emit_json(first.resolved, first.origins)
    assert load_text("a.yaml", yaml_text).data == load_text("a.json", json_text).data == first.resolved
