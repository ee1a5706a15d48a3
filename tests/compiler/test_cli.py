"""The commands as a person runs them: streams, files, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from paths import ROOT
from silogen_compiler.pipeline import compile_file

CASES = ROOT / "tests" / "cases"
VALID, INVALID = CASES / "valid" / "lora.yaml", CASES / "invalid" / "misspelled-key.yaml"


def silogen(*args, command="silogen", **kwargs):
    """Run one of the console scripts in a process of its own."""
    mains = {
        "silogen": "silogen_compiler.cli:main",
        "silogen-compile": "silogen_compiler.cli:compile_main",
        "silogen-train": "silogen_runtime.cli:main",
    }
    module, name = mains[command].split(":")
    code = f"from {module} import {name}; {name}()"
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def test_compile_prints_the_resolved_config_alone():
    result = silogen("compile", VALID, "--format", "json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["peft"]["class"] == "LoraConfig"
    assert result.stderr == ""


def test_the_short_command_is_the_same():
    assert silogen(VALID, command="silogen-compile").stdout == silogen("compile", VALID).stdout


def test_findings_go_to_standard_error_and_nothing_to_the_output(tmp_path):
    output = tmp_path / "out.yaml"
    result = silogen("compile", INVALID, "-o", output)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "did you mean `learning_rate`?" in result.stderr
    assert result.stderr.endswith("1 error\n")
    assert not output.exists()


def test_output_takes_the_place_of_a_file_whole(tmp_path):
    output = tmp_path / "out.yaml"
    output.write_text("earlier")
    assert silogen("compile", VALID, "-o", output).returncode == 0
    assert output.read_text().startswith("apiVersion: silogen.resolved/v1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["out.yaml"]


def test_output_that_cannot_be_written(tmp_path):
    result = silogen("compile", VALID, "-o", tmp_path / "missing" / "out.yaml")
    assert result.returncode == 4
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.stderr


def test_standard_input():
    result = silogen("compile", "-", input=VALID.read_text())
    assert result.returncode == 0
    assert "# -:9:18" in result.stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.yaml", "no such file or directory"), (".", "is a directory"), ("a\0b", "null byte")],
)
def test_files_that_cannot_be_read(name, reason, tmp_path):
    if "\0" in name:  # no process can be started with such an argument
        (finding,) = compile_file(name, environment={}).diagnostics
        assert reason in finding.message
        return
    result = silogen("compile", name, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error[SG101]: cannot read `{name}`: {reason}\n")
    assert "Traceback" not in result.stderr


def test_a_file_without_permission(tmp_path):
    if os.getuid() == 0:
        pytest.skip("the superuser may read every file")
    path = tmp_path / "a.yaml"
    path.write_text("")
    path.chmod(0)
    assert "SG101" in silogen("check", path).stderr


def test_check_counts_and_prints_no_config():
    result = silogen("check", VALID, INVALID)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.endswith("1 fixable with silogen fix --unsafe\n2 configs checked: 1 with errors\n")


def test_warnings_alone_are_no_failure():
    result = silogen("check", CASES / "valid" / "awkward-batch.yaml")
    assert result.returncode == 0
    assert "warning[SG302]" in result.stderr


@pytest.mark.parametrize("args", [("compile",), ("compil", VALID), ("compile", VALID, "--world-size", "0")])
def test_wrong_use_of_the_command(args):
    result = silogen(*args)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_world_size_changes_the_arithmetic():
    result = silogen("compile", VALID, "--world-size", "4", "--format", "json")
    args = json.loads(result.stdout)["trainer"]["args"]
    assert (args["per_device_train_batch_size"], args["gradient_accumulation_steps"]) == (4, 1)


def test_output_folders_come_from_the_environment_where_the_config_says_nothing():
    environment = {**os.environ, "CHECKPOINTS_PATH": "/elsewhere", "LOGS_PATH": "/logs"}
    trainer = json.loads(silogen("compile", VALID, "--format", "json", env=environment).stdout)["trainer"]
    assert trainer["args"]["output_dir"] == "/elsewhere"
    assert trainer["environment"] == {"TENSORBOARD_LOGGING_DIR": "/logs"}


def test_no_folder_for_logs_is_no_variable():
    result = silogen("compile", VALID, "--format", "json", "--set", "training_args.logging_dir=null")
    assert json.loads(result.stdout)["trainer"]["environment"] == {}


def test_a_reader_that_goes_away_is_no_traceback():
    code = "from silogen_compiler.cli import compile_main; compile_main()"
    command = f"{sys.executable} -c '{code}' {VALID} | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stdout == "apiVersion: silogen.resolved/v1\n"
    assert result.stderr == ""


def test_secrets_reach_no_output():
    for case in (CASES / "valid" / "secrets.yaml", CASES / "invalid" / "secret-beside-a-mistake.yaml"):
        result = silogen("compile", case)
        assert "hf_abcdefgh" not in result.stdout + result.stderr
        assert "secret@" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SG201", "unknown key"),
        ("sg301", "multiple of the number of processes"),
        ("training_args.learning_rate", "5e-05"),
        ("training_args.warmup_ratio", "warmup_steps"),
        ("peft_conf.peft_kwargs.r", "8"),
        ("data_conf.training_data.datasets.path", "JSONL"),
        ("sft_args", "max_seq_length"),
    ],
)
def test_explain(name, words):
    result = silogen("explain", name)
    assert result.returncode == 0
    assert words in result.stdout


def test_explain_what_does_not_exist():
    result = silogen("explain", "training_args.lerning_rate")
    assert result.returncode == 2
    assert "no code and no key" in result.stderr


def test_output_follows_a_link_and_keeps_the_mode(tmp_path):
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("earlier")
    real.chmod(0o600)
    link.symlink_to(real)
    assert silogen("compile", VALID, "-o", link).returncode == 0
    assert link.is_symlink()
    assert real.read_text().startswith("apiVersion")
    assert real.stat().st_mode & 0o777 == 0o600


def test_output_to_what_is_no_file_goes_through_it():
    result = silogen("compile", VALID, "-o", "/dev/stdout")
    assert result.stdout.startswith("apiVersion")
    assert silogen("compile", VALID, "-o", "-").stdout == result.stdout


def test_output_never_replaces_the_config(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(VALID.read_text())
    result = silogen("compile", config, "-o", config)
    assert result.returncode == 2
    assert config.read_text() == VALID.read_text()


def test_a_full_disk_behind_standard_output_is_a_failure():
    with Path("/dev/full").open("w") as full:
        command = [
            sys.executable,
            "-c",
            "from silogen_compiler.cli import compile_main; compile_main()",
            VALID,
        ]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 4
    assert "Traceback" not in result.stderr


def test_a_file_name_that_is_not_printable(tmp_path):
    config = tmp_path / "a\nb.yaml"
    config.write_text(VALID.read_text())
    result = silogen("compile", config)
    assert result.returncode == 0
    assert yaml.safe_load(result.stdout)["method"] == "sft"
