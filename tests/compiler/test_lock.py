"""`silogen compile --lock` and `--locked`: what is locked, and what is named when it moves."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from click.testing import CliRunner
from silogen_compiler.cli import silogen
from silogen_compiler.lock import make_lock
from silogen_compiler.pipeline import compile_file

CONFIG = """\
data_conf:
  training_data: {type: CONCATENATION, datasets: [{path: data/train.jsonl}]}
  validation_data: {type: NONE}
  chat_template_name: chat-ml
training_args:
  learning_rate: 2e-4
batchsize_conf: {total_train_batch_size: 16, max_per_device_train_batch_size: 4}
peft_conf: {peft_type: LORA, peft_kwargs: {target_modules: all-linear}}
run_conf:
  model: base
sft_args: {max_seq_length: 1024}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("{}\n")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "base" / ".hidden").write_text("")
    return tmp_path


def silogen_compile(*args):
    return CliRunner().invoke(silogen, ["compile", *(args or ("run.yaml", "--locked"))])


def lock(*args):
    result = silogen_compile("run.yaml", "--lock", *args)
    assert result.exit_code == 0, result.output
    return result


def findings(result):
    return re.findall(r"^error\[(SG\d+)\]: (.*)$", result.stderr, re.MULTILINE)


def test_what_the_lock_holds(folder):
    result = lock("--world-size", "4", "--target", "hf-2025.11")
    content = json.loads((folder / "run.lock.json").read_text())
    resolved = json.loads(
        silogen_compile("run.yaml", "--world-size", "4", "--target", "hf-2025.11", "--format", "json").stdout
    )
    assert content["digest"] == resolved["digest"]
    assert content["resolved"] == resolved
    assert content["target"]["transformers"] == "4.57.3"
    assert content["world_size"] == 4
    assert content["schema"] == "silogen/v1"
    assert content["files"] == {
        "base/model.safetensors": f"sha256:{hashlib.sha256(b'weights').hexdigest()}",
        "data/train.jsonl": f"sha256:{hashlib.sha256(b'{}' + bytes([10])).hexdigest()}",
    }
    template = resolved["tokenizer"]["chat_template"]["template"]
    expected = f"sha256:{hashlib.sha256(template.encode()).hexdigest()}"
    assert content["chat_template"] == {"name": "chat-ml", "sha256": expected}
    assert result.stderr == "wrote run.lock.json: 2 files\n"
    assert result.stdout.startswith("apiVersion: silogen.resolved/v1\n")


def test_the_same_bytes_twice(folder):
    lock()
    first = (folder / "run.lock.json").read_bytes()
    lock()
    assert (folder / "run.lock.json").read_bytes() == first


def test_nothing_moved():
    lock()
    result = silogen_compile()
    assert result.exit_code == 0
    assert result.stdout == silogen_compile("run.yaml").stdout
    assert result.stderr == ""


def test_a_comment_is_no_drift(folder):
    lock()
    (folder / "run.yaml").write_text(f"# why\n{CONFIG}")
    assert silogen_compile().exit_code == 0


def test_a_value_that_moved(folder):
    lock()
    (folder / "run.yaml").write_text(CONFIG.replace("2e-4", "4e-4"))
    result = silogen_compile()
    assert result.exit_code == 3
    assert findings(result) == [("SG120", "`training_args.learning_rate` was 0.0002, is 0.0004")]
    assert "--> run.yaml:6:18" in result.stderr
    assert result.stdout == ""


def test_a_value_that_lands_twice_is_named_once(folder):
    lock()
    (folder / "run.yaml").write_text(CONFIG.replace("1024", "512"))
    assert findings(silogen_compile()) == [("SG120", "`sft_args.max_seq_length` was 1024, is 512")]


def test_files_that_moved(folder):
    lock()
    (folder / "data" / "train.jsonl").write_text("{}\n{}\n")
    (folder / "base" / "model.safetensors").unlink()
    (folder / "base" / "tokenizer.json").write_text("{}")
    result = silogen_compile()
    assert result.exit_code == 3
    assert findings(result) == [
        ("SG120", "`base/model.safetensors` is not there any more"),
        ("SG120", "`base/tokenizer.json` was not there when the lock was written"),
        ("SG120", "`data/train.jsonl` has changed since the lock was written"),
    ]
    assert result.stderr.count("writes the lock anew") == 1


def test_versions_and_processes_that_moved():
    lock()
    named = findings(silogen_compile("run.yaml", "--locked", "--target", "hf-2025.11", "--world-size", "2"))
    assert ("SG120", '`target.transformers` was "5.23.0", is "4.57.3"') in named
    assert ("SG120", "`launch.world_size` was 1, is 2") in named


def test_data_that_is_not_there_yet(folder):
    (folder / "data" / "train.jsonl").unlink()
    assert lock().stderr == "wrote run.lock.json: 1 file; not local: data/train.jsonl\n"
    assert silogen_compile().exit_code == 0
    (folder / "data" / "train.jsonl").write_text("{}\n")
    assert findings(silogen_compile()) == [
        ("SG120", "`data/train.jsonl` was not there when the lock was written")
    ]


def test_a_model_of_the_hub_is_locked_by_name(folder):
    (folder / "run.yaml").write_text(CONFIG.replace("model: base", "model: owner/name"))
    assert lock().stderr == "wrote run.lock.json: 1 file; not local: owner/name\n"
    content = json.loads((folder / "run.lock.json").read_text())
    assert content["not_local"] == [{"name": "owner/name", "revision": "main"}]
    assert list(content["files"]) == ["data/train.jsonl"]
    assert silogen_compile().exit_code == 0


def test_a_base_adapter_is_locked(folder):
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"adapter")
    text = re.sub("peft_conf:.*", "peft_conf: {peft_type: PRETRAINED_PEFT, name_or_path: adapter}", CONFIG)
    (folder / "run.yaml").write_text(text)
    lock()
    assert "adapter/adapter_model.safetensors" in json.loads((folder / "run.lock.json").read_text())["files"]


def test_no_lock():
    result = silogen_compile()
    assert result.exit_code == 3
    assert findings(result) == [("SG121", "there is no lock `run.lock.json`")]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"apiVersion": "silogen.lock/v2"}', "[" * 9999]
)
def test_a_file_that_is_no_lock(folder, text):
    (folder / "run.lock.json").write_text(text)
    result = silogen_compile()
    assert result.exit_code == 3
    assert findings(result)[0][0] == "SG121"


def test_a_lock_that_was_changed(folder):
    lock()
    path = folder / "run.lock.json"
    path.write_text(path.read_text().replace('"learning_rate": 0.0002', '"learning_rate": 0.0004'))
    assert findings(silogen_compile()) == [("SG121", "`run.lock.json` was changed after it was written")]


def test_the_lock_of_several_files_stands_beside_the_last(folder):
    (folder / "more.yaml").write_text("training_args: {seed: 1}\n")
    assert silogen_compile("run.yaml", "more.yaml", "--lock").exit_code == 0
    assert not (folder / "run.lock.json").exists()
    assert silogen_compile("run.yaml", "more.yaml", "--locked").exit_code == 0


def test_a_config_with_mistakes_writes_no_lock(folder):
    (folder / "run.yaml").write_text(CONFIG.replace("learning_rate", "learning_rte"))
    assert silogen_compile("run.yaml", "--lock").exit_code == 1
    assert not (folder / "run.lock.json").exists()


@pytest.mark.parametrize("args", [("-", "--lock"), ("-", "--locked"), ("run.yaml", "--lock", "--locked")])
def test_wrong_use(args):
    result = CliRunner().invoke(silogen, ["compile", *args], input=CONFIG)
    assert result.exit_code == 2


def test_no_secret_is_locked(folder):
    (folder / "run.yaml").write_text(CONFIG.replace("base\n", "base\n  model_args: {token: hf_abcdefgh}\n"))
    lock()
    assert "hf_abcdefgh" not in (folder / "run.lock.json").read_text()


def test_hashing_tells_how_far_it_is():
    pieces = []
    make_lock(compile_file("run.yaml").resolved, "silogen/v1", pieces.append)
    assert sum(pieces) == len(b"weights") + len(b"{}\n")
