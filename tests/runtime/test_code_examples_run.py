"""The examples of what only a run finds: what they say is printed is what the runtime says."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.render.text import render_text
from silogen_config import ResolvedConfig
from silogen_docs.examples import compile_snippet, load_examples
from silogen_runtime.chat import encode
from silogen_runtime.data import load_data
from silogen_runtime.examples import read_example
from silogen_runtime.lines import read_lines
from silogen_runtime.machine import check_machine
from silogen_runtime.rows import mix_growth
from silogen_runtime.tokenizer import load_tokenizer

EXAMPLES = load_examples()
LINES = [code for code, example in EXAMPLES.items() if example.file.endswith(".jsonl")]
# Of the findings about the machine and the folders, those that every machine gives.
ANYWHERE = ["SG706", "SG725", "SG726", "SG731", "SG769", "SG774", "SG779"]
TOO_LITTLE = ["SG610", "SG611"]
MIXES = ["SG619", "SG620"]


def shown(findings):
    return render_text(findings, {}).strip("\n") + "\n"


def read(example, snippet, encoding, load_chat):
    """Return what is found in a data file: by its reader, and by the template where the example names one."""
    Path(example.file).parent.mkdir(exist_ok=True)
    Path(example.file).write_bytes(snippet.encode(encoding))
    kind = example.file, "DirectPreference" if "chosen" in snippet else "ChatConversation"
    conversations, findings = [], []
    for line in read_lines(example.file):
        parsed, wrong = (None, [line]) if isinstance(line, Diagnostic) else read_example(line, *kind)
        conversations += [parsed]
        findings += wrong
    if not example.template:
        return findings
    _, problems = encode(load_chat("byte-level", example.template), conversations, loss_on="assistant")
    return problems


@pytest.mark.parametrize("code", LINES)
def test_lines_of_data(code, tmp_path, monkeypatch, load_chat):
    example = EXAMPLES[code]
    monkeypatch.chdir(tmp_path)
    assert shown(read(example, example.wrong, example.encoding, load_chat)) == example.prints
    assert read(example, example.right, "utf-8", load_chat) == []


@pytest.mark.parametrize("code", ANYWHERE)
def test_configs_that_no_machine_trains(code):
    example = EXAMPLES[code]
    wrong, right = (
        check_machine(ResolvedConfig.model_validate(compile_snippet(example, snippet).resolved))
        for snippet in (example.wrong, example.right.replace("./models", "models"))
    )
    assert shown([finding for finding in wrong if finding.code == code and "data" not in finding.file]) == (
        example.prints
    )
    assert [finding.message for finding in right if finding.code == code and "data" not in finding.file] == []


@pytest.mark.parametrize("code", TOO_LITTLE)
def test_settings_that_leave_no_examples(code, resolve):
    example = EXAMPLES[code]
    compiled = compile_snippet(example, example.wrong).resolved["data"]
    config = ResolvedConfig.model_validate(
        resolve(data={key: compiled[key] for key in ("validation", "max_length")})
    )
    with pytest.raises(Refused) as refused:
        load_data(config, load_tokenizer(config), Console(quiet=True))
    assert shown(refused.value.diagnostics) == example.prints


def data_of(example, snippet):
    return ResolvedConfig.model_validate(compile_snippet(example, snippet).resolved).data


@pytest.mark.parametrize("code", MIXES)
def test_weights_of_a_mix(code):
    example = EXAMPLES[code]
    assert shown([*mix_growth(data_of(example, example.wrong), [16, 16])]) == example.prints
    assert [*mix_growth(data_of(example, example.right), [16, 16])] == []


def test_files_on_both_sides(resolve, tmp_path, monkeypatch, load_chat):
    example, chat = EXAMPLES["SG618"], load_chat("byte-level", "chat-ml")
    resolved = resolve()
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data.jsonl").rename("data/train.jsonl")
    findings = []
    for snippet in (example.wrong, example.right):
        resolved["data"] |= {
            key: compile_snippet(example, snippet).resolved["data"][key] for key in ("train", "validation")
        }
        config = ResolvedConfig.model_validate(resolved)
        findings.append(load_data(config, chat, Console(quiet=True)).diagnostics)
    assert shown(findings[0]) == example.prints
    assert findings[1] == []
