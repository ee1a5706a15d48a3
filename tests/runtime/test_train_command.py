"""`silogen train` as a person runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner
from paths import CASES
from silogen_compiler.cli import silogen
from silogen_compiler.emit import FORMATS, add_digest, emit_yaml
from silogen_compiler.pipeline import compile_text
from silogen_runtime.cli import train_command
from silogen_runtime.progress import ProgressLine
from tiny import LINES, write_lines


@pytest.fixture
def config(tmp_path, byte_level_model):
    """Return the path of a config that trains a few steps, as text that a person may have written."""
    data = write_lines(tmp_path / "data.jsonl", LINES)
    text = (CASES / "valid" / "lora.yaml").read_text()
    text = text.replace("data_conf:\n", "data_conf:\n  missing_pad_token_strategy: eos-repurpose\n")
    text = text.replace("data/train.jsonl", data).replace("models/base", byte_level_model)
    text = text.replace(
        "  learning_rate: 2e-5\n", f"  output_dir: {tmp_path}/out\n  max_steps: 3\n  logging_steps: 1\n"
    )
    path = tmp_path / "run.yaml"
    path.write_text(text.replace("sft_args:\n", "sft_args:\n  train_on_completions_only: true\n"))
    return path


def train(path, **kwargs):
    return CliRunner().invoke(train_command, [str(path)], **kwargs)


def write_resolved(config, path, change=None, **kwargs):
    """Write what `config` compiles to, changed, with a digest that is right."""
    resolved = compile_text("run.yaml", config.read_text(), environment={}, **kwargs).resolved
    if change:
        change(resolved)
    path.write_text(emit_yaml(add_digest(resolved), {}))
    return path


def test_a_config_is_compiled_and_trained(config, tmp_path):
    result = train(config)
    assert result.exit_code == 0, result.output
    assert "3 steps, loss " in result.stderr
    assert f"saved {tmp_path}/out/checkpoint-final" in result.stderr
    assert (tmp_path / "out" / "checkpoint-final" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "suffix"), [("yaml", "yaml"), ("json", "json"), ("toml", "toml"), ("python", "py")]
)
def test_a_resolved_config_runs_as_it_is(config, tmp_path, name, suffix):
    compiled = compile_text("run.yaml", config.read_text(), environment={})
    resolved = tmp_path / f"resolved.{suffix}"
    resolved.write_text(FORMATS[name](compiled.resolved, compiled.origins))
    result = train(resolved)
    assert result.exit_code == 0, result.output
    saved = json.loads((tmp_path / "out" / "resolved.json").read_text())
    assert saved == compiled.resolved


def test_a_resolved_config_that_was_edited_is_refused(config, tmp_path):
    compiled = compile_text("run.yaml", config.read_text(), environment={})
    compiled.resolved["trainer"]["args"]["learning_rate"] = 1.0
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(emit_yaml(compiled.resolved, compiled.origins))
    result = train(resolved)
    assert result.exit_code == 1
    assert "error[SG722]" in result.stderr
    assert not (tmp_path / "out").exists()


def test_mistakes_in_the_config_end_before_anything_is_loaded(config):
    config.write_text(config.read_text().replace("logging_steps", "loging_steps"))
    code = "import sys; from silogen_runtime.cli import train_command\n"
    code += "try: train_command()\nexcept SystemExit as end: print(end.code, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code, config], capture_output=True, text=True, check=True)
    assert result.stdout == "1 False\n"
    assert "did you mean `logging_steps`?" in result.stderr


def test_a_refused_run_names_the_finding(config):
    config.write_text(config.read_text().replace("data.jsonl", "missing.jsonl"))
    result = train(config)
    assert result.exit_code == 4
    assert "error[SG706]" in result.stderr


def test_another_number_of_processes_than_resolved_for_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")  # as torchrun sets for the only process that it starts
    result = train(write_resolved(config, tmp_path / "resolved.yaml", world_size=2))
    assert result.exit_code == 4
    assert "error[SG702]" in result.stderr


def test_both_yaml_readers_read_a_resolved_config_alike(config):
    compiled = compile_text("run.yaml", config.read_text(), environment={})
    assert yaml.safe_load(emit_yaml(compiled.resolved, compiled.origins)) == compiled.resolved


def test_a_config_comes_from_standard_input(config, tmp_path):
    result = train("-", input=config.read_text())
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "checkpoint-final").exists()
    told = CliRunner().invoke(train_command, ["--help"]).output
    assert "- stands for standard input" in " ".join(told.split())


def test_a_syntax_error_is_shown_in_its_line(config):
    config.write_text("data_conf: [\n")
    result = train(config)
    assert result.exit_code == 1
    assert "error[SG103]" in result.stderr
    assert "1 | data_conf: [" in result.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda resolved: resolved["data"].update(max_length="long"), "data.max_length: input should be"),
        (lambda resolved: resolved["data"]["train"]["datasets"].append(1), "data.train.datasets[1]: input"),
        (lambda resolved: resolved["run"].pop("determinism"), "run.determinism: "),
        (lambda resolved: resolved.update(more=1), "more: "),
    ],
)
def test_what_is_no_resolved_config_is_shown_in_its_file(config, tmp_path, change, said):
    resolved = write_resolved(config, tmp_path / "resolved.yaml", change)
    result = train(resolved)
    assert result.exit_code == 1
    assert "error[SG701]" in result.stderr
    assert f"{resolved}:" in result.stderr
    assert said in result.stderr


@pytest.mark.parametrize(("key", "name"), [("args_class", "NoConfig"), ("class", "NoTrainer")])
def test_a_trainer_that_is_unknown_is_a_finding(config, tmp_path, key, name):
    resolved = write_resolved(config, tmp_path / "r.yaml", lambda r: r["trainer"].update({key: name}))
    result = train(resolved)
    assert result.exit_code == 1
    assert f"error[SG701]: trainer.{key}: input should be" in result.stderr


def test_training_needs_its_packages(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    result = train(config)
    assert result.exit_code == 4
    assert "error[SG704]: training needs packages that are not installed: rich, torch" in result.stderr
    assert "pip install 'silogen[train]'" in result.stderr


def test_nonsense_of_a_launcher_is_told_by_every_process(config, monkeypatch):
    monkeypatch.setenv("RANK", "one")
    result = train(config)
    assert result.exit_code == 4
    assert "error[SG733]: `RANK` is `one`, not a whole number from 0 on" in result.stderr


def at_step_begin(monkeypatch, step, act):
    def begin(*given, **_):
        if given[2].global_step == step - 1:
            act()

    monkeypatch.setattr(ProgressLine, "on_step_begin", begin, raising=False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on(config, tmp_path, monkeypatch, number, code):
    at_step_begin(monkeypatch, 2, lambda: signal.raise_signal(number))
    result = train(config)
    assert result.exit_code == code
    told = f"stopped; to go on from {tmp_path}/out/checkpoint-2, write `resume_from_checkpoint: auto`"
    assert result.stderr.endswith(f"{told} under run_conf\n")
    assert not (tmp_path / "out" / "checkpoint-final").exists()


def test_a_run_that_was_stopped_at_once_has_no_checkpoint(config, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    at_step_begin(monkeypatch, 2, interrupt)
    result = train(config)
    assert result.exit_code == 130
    assert result.stderr.endswith("stopped; there is no checkpoint to go on from\n")


def test_a_failure_of_a_library_is_a_finding(config, monkeypatch):
    config.write_text(
        config.read_text().replace("logging_steps:", "lr_scheduler_kwargs: {foo: 1}\n  logging_steps:")
    )
    monkeypatch.delenv("SILOGEN_TRACEBACK", raising=False)
    result = train(config)
    assert result.exit_code == 4
    assert "error[SG734]: training failed: TypeError: " in result.stderr
    assert "set SILOGEN_TRACEBACK=1 to see where" in result.stderr


def test_locked_refuses_what_moved_before_anything_is_trained(config, tmp_path):
    run = CliRunner()
    assert run.invoke(silogen, ["compile", str(config), "--lock"]).exit_code == 0
    config.write_text(config.read_text().replace("max_steps: 3", "max_steps: 2"))
    result = run.invoke(train_command, [str(config), "--locked"])
    assert result.exit_code == 3
    assert "error[SG120]: `training_args.max_steps` was 3, is 2" in result.stderr
    assert not (tmp_path / "out").exists()


def test_locked_trains_what_is_locked(config):
    assert CliRunner().invoke(silogen, ["compile", str(config), "--lock"]).exit_code == 0
    result = CliRunner().invoke(train_command, [str(config), "--locked"])
    assert result.exit_code == 0, result.output
