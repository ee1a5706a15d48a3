"""What a trained model answers, and what it is asked."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from bitsandbytes.nn import Linear4bit
from click.testing import CliRunner
from rich.console import Console
from silogen_compiler.diagnostics import Refused
from silogen_config import ResolvedConfig
from silogen_runtime import cli
from silogen_runtime.chat import apply_template
from silogen_runtime.commands import generate as command
from silogen_runtime.commands.generate import as_line, generate_command
from silogen_runtime.generate import answers, load_speaker, render_prompts, tokenize
from silogen_runtime.prompts import from_texts, read_prompts
from silogen_runtime.saved import find_saved
from silogen_runtime.tokenizer import load_tokenizer
from tiny import PAIRS, conversation, write_lines
from trained import edit_json, refused

FINLAND = "What is the capital of Finland?"
HELSINKI = "The capital of Finland is Helsinki."
FEW = {"max_new_tokens": 24}


def generate(*args, **kwargs):
    return CliRunner().invoke(generate_command, [str(arg) for arg in args], **kwargs)


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def speaker(grown_run):
    return load_speaker(find_saved(grown_run), FEW)


def test_a_prompt_is_what_training_showed_before_an_answer(speaker, grown_run):
    prompt = from_texts([FINLAND], "Be brief.")[0]
    (text,) = render_prompts(speaker, [prompt])
    resolved = json.loads((grown_run.parent / "resolved.json").read_text())
    chat = load_tokenizer(ResolvedConfig.model_validate(resolved))
    assert [text] == apply_template(chat.tokenizer, [prompt.messages], add_generation_prompt=True)
    (ids,) = tokenize(speaker, [text])
    assert ids == chat.tokenizer(text, add_special_tokens=False).input_ids
    assert ids.count(chat.tokenizer.bos_token_id) == 1


def test_it_answers_and_stops(speaker):
    (answer,) = answers(speaker, from_texts([FINLAND], None), batch_size=1, seed=0)
    assert answer == (HELSINKI, "stop")


def test_an_answer_is_the_same_alone_and_among_others(speaker):
    prompts = from_texts([FINLAND, "Add two and three.", "And one more? Or two? Or three?"], None)
    together = list(answers(speaker, prompts, batch_size=3, seed=0))
    alone = list(answers(speaker, prompts, batch_size=1, seed=0))
    assert together == alone
    assert together[1].text == "The answer is five."


def test_one_answer_comes_as_it_is_made(speaker, capsys):
    (answer,) = answers(speaker, from_texts([FINLAND], None), batch_size=1, seed=0, is_streamed=True)
    assert capsys.readouterr().out == f"{answer.text}\n"


def test_an_answer_that_is_cut_says_so(grown_run):
    speaker = load_speaker(find_saved(grown_run), {"max_new_tokens": 1})
    (answer,) = answers(speaker, from_texts([FINLAND], None), batch_size=1, seed=0)
    assert answer.finish_reason == "length"
    assert HELSINKI.startswith(answer.text.strip())


def test_the_base_is_quantized_as_it_was_trained_on(quantized_run):
    speaker = load_speaker(find_saved(quantized_run), FEW)
    assert any(isinstance(layer, Linear4bit) for layer in speaker.model.modules())


def test_parameters_without_effect_are_refused(grown_run):
    with pytest.raises(Refused) as error:
        load_speaker(find_saved(grown_run), {**FEW, "temperature": 0.5})
    code, message = refused(error)
    assert code == "SG757"
    assert message.startswith("`temperature`: ")
    load_speaker(find_saved(grown_run), {**FEW, "temperature": 0.5, "do_sample": True})


def test_a_base_below_a_whole_model_is_refused(byte_level_model):
    with pytest.raises(Refused, match="SG757: `--base` has no effect"):
        load_speaker(find_saved(Path(byte_level_model)), FEW, base="other")


def test_a_prompt_that_is_too_long_is_refused(speaker):
    with pytest.raises(Refused, match=r"SG758: a prompt of .* leaves no room in the 512"):
        render_prompts(speaker, from_texts(["two and three " * 200], None))


def asked(folder, **given):
    kwargs = {"texts": (), "file": None, "system": None, **given}
    return read_prompts(find_saved(folder), Console(quiet=True), **kwargs)


def test_validation_data_are_asked_up_to_their_last_answer(grown_run):
    prompts = asked(grown_run)
    data = lines_of(grown_run.parents[1] / "data.jsonl")
    assert len(prompts) == 4  # a quarter of 16
    assert len({prompt.span.line for prompt in prompts}) == 4
    for prompt in prompts:
        answer = {"role": "assistant", "content": prompt.reference}
        assert [*prompt.messages, answer] == data[prompt.span.line - 1]["messages"]


def test_preferences_are_asked_for_the_chosen_answer(grown_run, tmp_path):
    run = shutil.copytree(grown_run.parent, tmp_path / "run")
    resolved = json.loads((run / "resolved.json").read_text())
    file = {"type": "CONCATENATION", "datasets": [{"path": write_lines(tmp_path / "pairs.jsonl", PAIRS[:2])}]}
    data = {"data_type": "DirectPreference", "train": file, "validation": file}
    data |= {"max_length": 256, "max_prompt_length": 128}
    edit_json(
        run / "resolved.json",
        method="dpo",
        data=data,
        tokenizer={**resolved["tokenizer"], **with_tokens(run)},
    )
    prompts = asked(run)
    assert [prompt.reference for prompt in prompts] == [HELSINKI, "The answer is five."]
    assert prompts[0].messages == [{"role": "user", "content": FINLAND}]


def with_tokens(run) -> dict:
    """Return a tokenizer that has the template's tokens, as dpo needs it."""
    return {"from_pretrained": {"pretrained_model_name_or_path": str(run / "checkpoint-final")}}


def test_files_hold_lines_of_text_or_conversations(grown_run, tmp_path):
    (tmp_path / "questions.txt").write_text(f"{FINLAND}\n\nAdd two.\n")
    texts = asked(grown_run, file=str(tmp_path / "questions.txt"), system="Be brief.")
    assert [prompt.messages[-1]["content"] for prompt in texts] == [FINLAND, "Add two."]
    assert texts[0].messages[0] == {"role": "system", "content": "Be brief."}

    (tmp_path / "windows.txt").write_bytes("\ufeffOne\u2028and\x0ctwo?\r\n\r\nThree\x85?\r\n".encode())
    texts = asked(grown_run, file=str(tmp_path / "windows.txt"))
    assert [prompt.messages[-1]["content"] for prompt in texts] == ["One\u2028and\x0ctwo?", "Three\x85?"]

    path = write_lines(tmp_path / "data.jsonl", [conversation("One?", "1.", "Two?", "2.")])
    (prompt,) = asked(grown_run, file=path)
    assert [message["content"] for message in prompt.messages] == ["One?", "1.", "Two?"]
    assert prompt.reference == "2."
    with pytest.raises(Refused, match="SG757"):
        asked(grown_run, file=path, system="Be brief.")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("blank.txt", b"\n", "SG758"),
        ("latin.txt", b"\xe4", "SG758"),
        ("a.jsonl", b"{}\n", "SG603"),
        (
            "answer.jsonl",
            b'{"messages": [{"role": "assistant", "content": "hi"}]}\n',
            "SG758: this conversation has nothing before its answer",
        ),
    ],
)
def test_a_file_without_prompts_is_refused(grown_run, tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=code):
        asked(grown_run, file=str(tmp_path / name))


def test_data_without_validation_is_refused(quantized_run):
    with pytest.raises(Refused, match="SG758: the run has no validation data"):
        asked(quantized_run)


def test_the_command_takes_a_config_and_writes_lines(grown_run, tmp_path):
    out = tmp_path / "answers.jsonl"
    config = grown_run.parent / "resolved.json"
    result = generate(config, "--data", "--limit", 2, "--max-new-tokens", 24, "--output", out)
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == [out]
    for line in lines_of(out):
        assert line["messages"][-1]["content"].strip() == line["reference"].strip()
        assert line["finish_reason"] == "stop"
        assert line["file"].endswith("data.jsonl")


@pytest.mark.parametrize("output", ["missing/answers.jsonl", "."])
def test_an_output_that_can_not_be_written_is_told_before_the_model_is_loaded(
    grown_run, tmp_path, monkeypatch, output
):
    monkeypatch.setattr("silogen_runtime.generate.load_speaker", None)
    result = generate(grown_run, "--prompt", "x", "--output", tmp_path / output)
    assert result.exit_code == 4
    assert "error[SG723]: " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_written_to(grown_run):
    read, write = os.pipe()
    result = generate(grown_run, "--prompt", FINLAND, "--max-new-tokens", 1, "--output", f"/dev/fd/{write}")
    os.close(write)
    assert result.exit_code == 0, result.output
    with os.fdopen(read) as lines:
        assert [json.loads(line)["finish_reason"] for line in lines] == ["length"]


def test_an_early_end_keeps_the_answers_so_far(grown_run, tmp_path, monkeypatch):
    def stopped_at_the_second(prompt, answer):
        if prompt.messages[-1]["content"] != FINLAND:
            raise KeyboardInterrupt
        return as_line(prompt, answer)

    monkeypatch.setattr(command, "as_line", stopped_at_the_second)
    out = tmp_path / "answers.jsonl"
    out.write_text("of yesterday\n")
    flags = ("--max-new-tokens", 24, "--batch-size", 1, "--output", out)
    result = generate(grown_run, "--prompt", FINLAND, "--prompt", "Add two.", *flags)
    assert result.exit_code == 1
    assert f"the answers so far are in {out}.partial\n" in result.stderr
    (line,) = lines_of(tmp_path / "answers.jsonl.partial")
    assert line["messages"][-1]["content"] == HELSINKI
    assert out.read_text() == "of yesterday\n"


def test_the_command_prints_answers_and_draws_the_same_again(grown_run):
    one = generate(grown_run, "--prompt", FINLAND, "--max-new-tokens", 24)
    assert (one.exit_code, one.stdout) == (0, f"{HELSINKI}\n")
    flags = ("--do-sample", "--temperature", 3, "--max-new-tokens", 8, "--seed")
    first, again, other = (
        generate(grown_run, "--prompts", "-", *flags, seed, input=f"{FINLAND}\nAdd two.\n")
        for seed in (1, 1, 2)
    )
    assert first.stdout.startswith(f"> {FINLAND}\n")
    assert "> Add two.\n" in first.stdout
    assert first.stdout == again.stdout != other.stdout


def test_a_config_that_is_not_trained_is_refused(grown_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = generate(grown_run.parent, "--prompt", "x", "--base", "nowhere/at/all")
    assert result.exit_code == 4
    assert "error[SG751]" in result.stderr
    (tmp_path / "run.yaml").write_text("method: sft\n")
    for name, code in (("run.yaml", "SG202"), ("nowhere.yaml", "SG101")):
        result = generate(name, "--prompt", "x")
        assert result.exit_code == 1
        assert f"error[{code}]" in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", '{"peft_type": "LO'),
        ("adapter_config.json", '{"peft_type": "UNKNOWN"}'),
        ("resolved.json", '{"apiVersion": '),
    ],
)
def test_a_damaged_model_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    result = generate(tmp_path, "--prompt", "x")
    assert result.exit_code == 4
    assert "error[SG734]: reading the model failed: " in result.stderr


def test_an_unfinished_run_is_refused(grown_run, tmp_path):
    run = shutil.copytree(grown_run.parent, tmp_path / "run")
    shutil.rmtree(run / "checkpoint-final")
    with pytest.raises(Refused, match=r"SG750: .*holds no trained model"):
        find_saved(run)


@pytest.mark.parametrize(
    "args", [(), ("--prompt", "x", "--data"), ("--data", "--system", "x"), ("--prompt", "x", "--top-k", "y")]
)
def test_wrong_use_is_told(args, tmp_path):
    assert generate(tmp_path, *args).exit_code == 2


def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    result = generate(tmp_path, "--prompt", "x")
    assert result.exit_code == 4
    assert "error[SG704]: generating needs packages that are not installed: " in result.stderr
