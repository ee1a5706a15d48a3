"""Every code has an example: the wrong half gives that finding and no other, the right half none."""

from __future__ import annotations

import re

import pytest
from silogen_compiler.codes import CODES
from silogen_compiler.explain.code import WIDTH, explain_code
from silogen_docs.examples import COMMAND, compile_snippet, load_examples, printed

EXAMPLES = load_examples()
COMPILED = {code: example for code, example in EXAMPLES.items() if not example.prints}
RUN = {code: example for code, example in EXAMPLES.items() if example.prints}
CONFIGS = [
    pytest.param(example, snippet, id=f"{code}-{half}")
    for code, example in RUN.items()
    for half, snippet in (("wrong", example.wrong), ("right", example.right))
    if example.file == "run.yaml" and snippet[0] not in COMMAND + "{"
]
FINDING = re.compile(r"^(error|warning)\[(SG\d+)\]: .", re.MULTILINE)


def test_every_code_has_an_example():
    assert [*EXAMPLES] == sorted(CODES)


def test_only_a_run_finds_what_is_not_compiled():
    """What `compile` can say is compiled, so that the page shows what it really says."""
    commands = ["SG120", "SG121", "SG505"]  # about a lock that a command wrote before, or about an output
    assert [code for code in RUN if code < "SG6"] == commands


@pytest.mark.parametrize("code", COMPILED)
def test_what_is_wrong_gives_the_code_alone(code):
    example = EXAMPLES[code]
    compiled = compile_snippet(example, example.wrong)
    assert [finding.code for finding in compiled.diagnostics] == [code], printed(compiled)


@pytest.mark.parametrize("code", COMPILED)
def test_what_is_right_gives_no_finding(code):
    example = EXAMPLES[code]
    compiled = compile_snippet(example, example.right)
    assert compiled.diagnostics == [], printed(compiled)


@pytest.mark.parametrize("code", RUN)
def test_what_a_run_prints_is_headed_by_the_code(code):
    found = FINDING.findall(EXAMPLES[code].prints)
    assert {*found} == {(CODES[code].severity, code)}


@pytest.mark.parametrize(("example", "snippet"), CONFIGS)
def test_a_config_that_only_a_run_refuses_compiles(example, snippet):
    compiled = compile_snippet(example, snippet)
    assert compiled.resolved is not None, printed(compiled)


@pytest.mark.parametrize("code", CODES)
def test_explain_shows_meaning_and_example(code):
    text = explain_code(code.lower())
    head, meaning, rest = text.split("\n\n", 2)
    assert head == f"{CODES[code].severity}[{code}]: {CODES[code].title}"
    assert meaning.replace("\n", " ") == CODES[code].meaning
    assert max(len(line) for line in meaning.split("\n")) <= WIDTH
    for half in (EXAMPLES[code].wrong, EXAMPLES[code].right):
        assert "\n".join(f"    {line}" for line in half.strip().split("\n")) in rest
    assert f"    {CODES[code].severity}[{code}]: " in rest
