"""`silogen init` and `silogen schema`: configs to start from, and the schema that an editor reads."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from click.testing import CliRunner
from silogen_compiler.cli import silogen
from silogen_compiler.pipeline import compile_file, compile_text
from silogen_compiler.recipes import EDITOR_SCHEMA, FOLDER, RECIPES, schema_address, write_recipe
from silogen_compiler.targets import packages_of_targets

LONGEST = 130


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*args, **kwargs):
    return CliRunner().invoke(silogen, ["init", *args], **kwargs)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("target", packages_of_targets())
def test_every_recipe_compiles_without_findings_for_any_number_of_gpus(recipe, target):
    for gpus in range(65):
        text = write_recipe(recipe, "run.yaml", model="models/base", data="", gpus=gpus)
        compiled = compile_text("run.yaml", text, target=target, environment={})
        assert compiled.resolved["launch"]["world_size"] == max(gpus, 1)
        assert compiled.diagnostics == []
        assert compiled.resolved["trainer"]["args"]["bf16"] is (gpus > 0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_device_gets_less_than_the_recipe_means_it_to(recipe):
    for gpus in range(1, 9):
        text = write_recipe(recipe, "run.yaml", model="models/base", data="", gpus=gpus)
        args = compile_text("run.yaml", text, environment={}).resolved["trainer"]["args"]
        size, steps = args["per_device_train_batch_size"], args["gradient_accumulation_steps"]
        assert size == RECIPES[recipe].per_device or steps == 1
        assert RECIPES[recipe].total_batch / 2 < size * steps * gpus <= RECIPES[recipe].total_batch


def test_the_file_is_written_and_checked_as_it_says(folder):
    result = init("sft-lora", "--model", "owner/name", "--data", "my data.jsonl", "--gpus", "2")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr.startswith("wrote run.yaml: ")
    data = yaml.safe_load((folder / "run.yaml").read_text("utf-8"))
    assert data["run_conf"]["model"] == "owner/name"
    assert data["data_conf"]["training_data"]["datasets"] == [{"path": "my data.jsonl"}]
    command = re.search("# Check it:  silogen (.*)", (folder / "run.yaml").read_text("utf-8"))[1]
    checked = CliRunner().invoke(silogen, command.split())
    assert checked.exit_code == 0
    assert checked.stderr == "1 config checked: no findings\n"


def test_methods_and_adapters():
    made = {name: yaml.safe_load(init(name, "-o", "-").stdout) for name in RECIPES}
    assert made["sft-full"]["peft_conf"]["peft_type"] == "NO_PEFT"
    assert made["sft-qlora"]["quant_conf"]["load_in_4bit"] is True
    assert made["dpo-lora"]["method"] == "dpo"
    rates = {name: data["training_args"]["learning_rate"] for name, data in made.items()}
    assert {name: float(rate) for name, rate in rates.items()} == {
        "sft-full": 2e-5,
        "sft-lora": 2e-4,
        "sft-qlora": 2e-4,
        "dpo-lora": 1e-5,
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_value_is_explained(recipe):
    """Each line with a value has a comment, but tags whose section tells what they are."""
    text = (FOLDER / f"{recipe}.yaml").read_text("utf-8")
    bare = [line.strip() for line in text.splitlines() if re.match(r"\s+[\w -]+: [^#]+$", line)]
    assert bare == [line for line in ("ratio: 0.05", "quantization_type: bits-and-bytes") if line in text]
    assert [line for line in text.splitlines() if len(line) > LONGEST] == []


@pytest.mark.parametrize("value", ["a: b", "no", "${x}", "$HOME", "#1", 'a"b', "ä ö"])
def test_names_that_yaml_would_read_otherwise(value):
    text = init("sft-full", "-o", "-", "--model", value).stdout
    assert yaml.safe_load(text)["run_conf"]["model"] == value


def test_a_file_that_is_there_stays(folder):
    (folder / "run.yaml").write_text("mine")
    result = init("sft-full")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert (folder / "run.yaml").read_text() == "mine"
    assert init("sft-full", "--force").exit_code == 0
    assert compile_file("run.yaml").resolved


def test_without_a_terminal_the_recipe_must_be_given(folder):
    result = init()
    assert result.exit_code == 2
    assert all(name in result.stderr for name in RECIPES)
    assert not (folder / "run.yaml").exists()


def test_in_a_terminal_it_asks(folder):
    parent, child = pty.openpty()
    code = "from silogen_compiler.cli import main; main()"
    command = [sys.executable, "-c", code, "init"]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child)
    os.write(parent, b"nothing\nsft-qlora\n")
    assert process.wait(timeout=60) == 0
    os.close(child)
    os.close(parent)
    assert yaml.safe_load((folder / "run.yaml").read_text("utf-8"))["quant_conf"]["load_in_4bit"]


def test_an_unknown_recipe():
    result = init("sft-lore")
    assert result.exit_code == 2
    assert "sft-lora" in result.stderr


def test_a_folder_that_is_not_there():
    assert init("sft-lora", "-o", "nowhere/run.yaml").exit_code == 4


def address(text):
    return re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.splitlines()[0])[1]


def test_an_editor_finds_the_schema(folder):
    init("sft-lora")
    url = urlsplit(address((folder / "run.yaml").read_text("utf-8")))
    assert url.scheme == "file"
    assert Path(unquote(url.path)) == EDITOR_SCHEMA.resolve()
    assert json.loads(Path(unquote(url.path)).read_text("utf-8"))["$defs"]


def test_a_schema_below_the_working_directory_is_named_by_its_relative_path(monkeypatch):
    root = EDITOR_SCHEMA.resolve().parents[2]
    monkeypatch.chdir(root)
    assert schema_address("run.yaml") == "generated/silogen_config/silogen.schema.json"
    assert schema_address("docs/run.yaml") == "../generated/silogen_config/silogen.schema.json"


def test_the_schema_is_printed_written_and_located(folder):
    runner = CliRunner()
    text = runner.invoke(silogen, ["schema"]).stdout
    assert json.loads(text)["$defs"]
    assert runner.invoke(silogen, ["schema", "-o", "silogen.schema.json"]).exit_code == 0
    assert (folder / "silogen.schema.json").read_text("utf-8") == text
    path = runner.invoke(silogen, ["schema", "--path"]).stdout.removesuffix("\n")
    assert Path(path).read_text("utf-8") == text
