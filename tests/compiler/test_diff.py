"""`silogen diff`: configs, targets, processes, git revisions and runs compared by resolved values."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from paths import CASES
from silogen_compiler.cli import silogen
from silogen_compiler.difference import Change, compare, named
from silogen_compiler.emit import emit_json, emit_yaml
from silogen_compiler.pipeline import compile_file

VALID = CASES / "valid"
LORA = (VALID / "lora.yaml").read_text("utf-8")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(LORA)
    (tmp_path / "b.yaml").write_text(LORA.replace("learning_rate: 2e-5", "learning_rate: 4e-5\n  seed: 7"))
    return tmp_path


def diff(*args):
    return CliRunner().invoke(silogen, ["diff", *map(str, args)])


def git(*args):
    names = ["GIT_AUTHOR", "GIT_COMMITTER"]
    who = {f"{n}_{k}": "a@b.example" for n in names for k in ("NAME", "EMAIL")}
    subprocess.run(["git", *args], check=True, capture_output=True, env={**os.environ, **who})


def test_changed_values_with_both_origins():
    result = diff("a.yaml", "b.yaml")
    assert result.exit_code == 3
    lines = result.output.splitlines()
    assert lines[:2] == ["--- a.yaml (hf-2026.11, 1 process)", "+++ b.yaml (hf-2026.11, 1 process)"]
    at = lines.index("~ trainer.args.learning_rate: 2.0e-05 → 4.0e-05")
    assert lines[at + 1] == "    a.yaml:9:18 → b.yaml:9:18"
    at = lines.index("~ trainer.args.seed: 42 → 7")
    assert lines[at + 1] == "    default → b.yaml:10:9"
    assert lines[-1].startswith("2 changed, ")
    assert "\033" not in result.output


def test_every_value_is_counted_once():
    result = diff("a.yaml", "b.yaml", "--format", "json")
    resolved = compile_file("a.yaml").resolved
    found = compare(resolved, {})
    assert json.loads(result.output)["equal"] + 2 == len(found.changes)


def test_what_is_written_differently_and_means_the_same_is_equal():
    text = LORA.replace("2e-5", "0.00002") + "\noverrides: {lr_multiplier: 1}\n"
    Path("c.yaml").write_text(text)
    result = diff("a.yaml", "c.yaml")
    assert result.exit_code == 0
    assert result.output.endswith(" equal\n")
    assert len(result.output.splitlines()) == 1


def test_keys_of_one_side_only():
    result = diff(VALID / "lora.yaml", VALID / "qlora.yaml")
    assert "+ quantization.kwargs.load_in_4bit: true\n" in result.output
    assert "quantization: null" not in result.output
    assert (
        "- quantization.kwargs.load_in_4bit: true\n" in diff(VALID / "qlora.yaml", VALID / "lora.yaml").output
    )


def test_sections_stand_apart():
    blocks = diff(VALID / "lora.yaml", VALID / "qlora.yaml").output.split("\n\n")[1:-1]
    sections = [
        {line.split()[1].split(".")[0] for line in b.splitlines() if line[0] in "+-~"} for b in blocks
    ]
    assert sections == [{"quantization"}, {"peft"}]


def test_one_config_for_two_targets():
    result = diff("a.yaml", "--target", "hf-2026.11", "--to-target", "hf-2025.11")
    assert result.exit_code == 3
    assert "~ target.name: hf-2026.11 → hf-2025.11\n" in result.output
    assert "+ trainer.args.warmup_ratio: 0.0\n" in result.output


def test_one_config_for_one_and_several_processes():
    result = diff("a.yaml", "a.yaml", "--world-size", "1", "--to-world-size", "4")
    assert "~ launch.world_size: 1 → 4\n" in result.output
    assert "~ trainer.args.gradient_accumulation_steps: 4 → 1\n" in result.output


def test_one_config_and_nothing_to_compare_it_with():
    result = diff("a.yaml")
    assert result.exit_code == 2
    assert "--to-target" in result.output


def test_settings_apply_to_both():
    result = diff("a.yaml", "b.yaml", "--set", "training_args.learning_rate=1e-3")
    assert "learning_rate" not in result.output
    assert "seed" in result.output


def test_json_holds_the_same():
    content = json.loads(diff("a.yaml", "b.yaml", "--format", "json").output)
    assert content["changes"][0] == {
        "kind": "changed",
        "key": "trainer.args.learning_rate",
        "from": 2e-05,
        "from_origin": "a.yaml:9:18",
        "to": 4e-05,
        "to_origin": "b.yaml:9:18",
    }


def test_a_config_that_does_not_compile():
    result = diff("a.yaml", CASES / "invalid" / "misspelled-key.yaml")
    assert result.exit_code == 1
    assert "SG201" in result.output
    assert "→" not in result.output


def test_a_git_revision(in_a_folder):
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (in_a_folder / "a.yaml").write_text(LORA.replace("2e-5", "1e-4"))
    result = diff("HEAD:a.yaml", "a.yaml")
    assert result.exit_code == 3
    assert (
        "~ trainer.args.learning_rate: 2.0e-05 → 0.0001\n    HEAD:a.yaml:9:18 → a.yaml:9:18\n"
        in result.output
    )
    assert diff("HEAD:a.yaml", "HEAD:./a.yaml").exit_code == 0


def test_a_git_revision_extends_files_of_the_same_revision(in_a_folder):
    (in_a_folder / "runs").mkdir()
    (in_a_folder / "runs" / "c.yaml").write_text("extends: [../a.yaml]\ntraining_args: {seed: 1}\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (in_a_folder / "a.yaml").write_text(LORA.replace("2e-5", "1e-4"))
    for name in ("HEAD:runs/c.yaml", "HEAD:./runs/c.yaml"):
        output = diff(name, "runs/c.yaml").output
        assert "learning_rate: 2.0e-05 → 0.0001\n    HEAD:a.yaml:9:18 → a.yaml:9:18\n" in output
        assert "seed" not in output


@pytest.mark.parametrize("name", ["HEAD:a.yaml", "nothing:b.yaml", "--upload-pack=x:b.yaml", "x.yaml"])
def test_what_git_does_not_have_is_a_finding(name):
    result = CliRunner().invoke(silogen, ["diff", "--", name, "a.yaml"])
    assert result.exit_code == 1
    assert f"error[SG101]: cannot read `{name}`: " in result.output


def test_a_file_comes_before_a_revision(in_a_folder):
    (in_a_folder / "v1:a.yaml").write_text(LORA)
    assert diff("v1:a.yaml", "a.yaml").exit_code == 0


def save(folder, name="resolved.json", emit=emit_json, **options):
    folder.mkdir(parents=True, exist_ok=True)
    compiled = compile_file("a.yaml", **options)
    (folder / name).write_text(emit(compiled.resolved, compiled.origins))


def test_a_finished_run(in_a_folder):
    save(in_a_folder / "out")
    (in_a_folder / "out" / "checkpoint-5").mkdir()
    for side in ("out", "out/", "out/checkpoint-5", "out/resolved.json"):
        result = diff(side, "b.yaml")
        assert result.exit_code == 3
        assert "~ trainer.args.learning_rate: 2.0e-05 → 4.0e-05\n" in result.output
        assert "    out/resolved.json:" in result.output
        assert diff("a.yaml", side).exit_code == 0


def test_a_resolved_config_as_yaml(in_a_folder):
    save(in_a_folder, "resolved.yaml", emit_yaml)
    assert diff("a.yaml", "resolved.yaml").exit_code == 0


def test_beside_a_run_a_config_compiles_for_what_that_ran_on(in_a_folder):
    save(in_a_folder / "out", target="hf-2025.11", world_size=4)
    assert diff("a.yaml", "out").exit_code == 0
    assert diff("out", "a.yaml").exit_code == 0
    assert "launch.world_size: 4 → 2" in diff("out", "a.yaml", "--world-size", "2").output


def test_a_folder_without_a_run(in_a_folder):
    (in_a_folder / "empty").mkdir()
    result = diff("empty", "a.yaml")
    assert result.exit_code == 1
    assert "holds no resolved.json" in result.output


def test_secrets_are_never_shown():
    result = diff(VALID / "secrets.yaml", VALID / "lora.yaml")
    assert "hf_abcdefgh" not in result.output
    assert "secret@" not in result.output


def test_long_values_are_cut_around_their_difference():
    (change,) = compare({"a": {"b": "x" * 500 + "1"}}, {"a": {"b": "x" * 500 + "2"}}).changes
    key, before, after = named(change, 40)
    assert (key, before[-1], after[-1]) == ("a.b", "1", "2")
    assert len(before) < 45


def test_numbers_and_booleans_are_not_the_same():
    assert compare({"a": {"b": 1}}, {"a": {"b": True}}).changes == [Change(("a", "b"), 1, after=True)]
    assert compare({"a": {"b": [1]}}, {"a": {"b": [1]}}).equal == 1
