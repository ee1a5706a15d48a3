"""`silogen check` on folders: which files are configs, in which order, and what is said about all of them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from multiprocessing import active_children

import pytest
from paths import CASES
from silogen_compiler.check_many import FEW, check_many
from silogen_compiler.search import find_files, is_config, sections

GOOD = (CASES / "valid" / "lora.yaml").read_text()
WRONG = GOOD.replace("learning_rate:", "learning_rte:")
WARNED = GOOD.replace("total_train_batch_size: 16", "total_train_batch_size: 7")
COMMAND = [sys.executable, "-c", "from silogen_compiler.cli import main; main()", "check"]


def check(*args, cwd):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with configs, files that are none, and folders that nobody wants searched."""
    files = {
        "a.yaml": GOOD,
        "b/wrong.yml": WRONG,
        "b/warned.yaml": WARNED,
        "b/whole.json": json.dumps({"training_args": {}}),
        "c/part.toml": "[data_conf]\n",
        "compose.yaml": "services: {web: {image: nginx}}\n",
        "list.yaml": "- data_conf\n",
        "nested.json": json.dumps({"runs": [{"data_conf": {}}]}),
        "notes.txt": GOOD,
        "resolved.yaml": "apiVersion: silogen.resolved/v1\ntraining_args: {}\n",
        ".git/a.yaml": WRONG,
        ".venv/a.yaml": WRONG,
        "node_modules/a.yaml": WRONG,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_sections_come_from_the_schema():
    assert {"data_conf", "training_args", "batchsize_conf", "peft_conf", "run_conf", "sft_args"} <= sections()
    assert not sections() & {"method", "extends", "tracking", "overrides"}


def test_folders_are_searched_for_configs(folder):
    result = check(".", cwd=folder)
    assert result.returncode == 1
    assert result.stdout == ""
    places = [line.split()[1] for line in result.stderr.splitlines() if line.lstrip().startswith("--> ")]
    files = list(dict.fromkeys(place.split(":")[0] for place in places))
    assert files == ["b/warned.yaml", "b/whole.json", "b/wrong.yml", "c/part.toml"]
    summary = "5 configs checked in 3 folders: 3 with errors, 1 with warnings, 4 files skipped\n"
    assert result.stderr.endswith(summary)


def test_a_file_that_is_named_is_checked_whatever_it_holds(folder):
    result = check("compose.yaml", "b", cwd=folder)
    assert "compose.yaml:1:1" in result.stderr
    assert "4 configs checked in 1 folder: " in result.stderr


def test_a_file_is_checked_once(folder):
    result = check("./b/wrong.yml", "b", "b/wrong.yml", cwd=folder)
    assert result.stderr.count("unknown key `learning_rte`") == 1
    assert "3 configs checked in 1 folder: " in result.stderr


def test_a_folder_without_configs(folder):
    result = check("node_modules/..", "--error-limit", "1", cwd=folder / "c")
    assert result.returncode == 1  # there is no such folder
    assert "SG101" in result.stderr
    (folder / "c" / "part.toml").write_text("[tool]\n")
    result = check(".", cwd=folder / "c")
    assert (result.returncode, result.stderr) == (0, "0 configs checked: no findings, 1 file skipped\n")


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("broken.yaml", b"data_conf: [\n", True),
        ("broken.json", b'{\n  "method": "sft",\n  "data_conf": [\n', True),
        ("broken.toml", b"[training_args]\nlearning_rate = \n", True),
        ("latin.yaml", "run_conf:\n  model: gr\xf6\xdfe\n".encode("latin-1"), True),
        ("bom.yaml", "\ufeffdata_conf: {}\n".encode(), True),
        ("flow.yaml", b"{method: sft, data_conf: {}}", True),
        ("other-broken.yaml", b"a: [\n", False),
        ("manifests.yaml", b"kind: A\n---\nspec:\n  data_conf: 1\n", False),
        ("other-latin.yaml", "a: gr\xf6\xdfe\n".encode("latin-1"), False),
        ("binary.json", bytes(range(256)), False),
        ("empty.yaml", b"", False),
    ],
)
def test_what_looks_like_a_config(name, raw, expected, tmp_path):
    path = tmp_path / name
    path.write_bytes(raw)
    assert is_config(str(path)) == expected


def test_what_is_no_plain_file_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nothing.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert find_files([str(tmp_path)]) == []


def test_a_file_that_others_extend_is_checked_as_a_part_of_them(tmp_path):
    base = GOOD.replace("sft_args:", "sft_arg:")
    (tmp_path / "base.yaml").write_text(base)
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("extends: [base.yaml]\ntraining_args: {seed: 1}\n")
    result = check(".", cwd=tmp_path)
    assert result.stderr.count("unknown key `sft_arg`") == 1
    assert "2 configs checked in 1 folder: 2 with errors\n" in result.stderr
    named = check("base.yaml", ".", cwd=tmp_path)
    assert "3 configs checked in 1 folder: 3 with errors\n" in named.stderr


def write_many(folder, number):
    for index in range(number):
        (folder / f"run-{index:03}.yaml").write_text(WRONG if index % 5 == 3 else GOOD)


def test_processes_change_nothing_that_is_printed(tmp_path):
    write_many(tmp_path, FEW * 3)
    alone, several = (check(".", "--jobs", jobs, cwd=tmp_path) for jobs in ("1", "3"))
    assert alone.stderr == several.stderr
    assert alone.stderr.endswith("24 configs checked in 1 folder: 5 with errors\n")


def test_many_files_are_checked_in_other_processes(tmp_path):
    write_many(tmp_path, FEW + 1)
    files = find_files([str(tmp_path)])
    started = {child.pid for _ in check_many(files, 2) for child in active_children()}
    assert len(started) == 2
    results = list(check_many(files, 2))
    assert [result.name for result in results] == [file.name for file in files]
    assert [result.has_errors for result in results] == [index % 5 == 3 for index in range(len(files))]


def test_standard_input_is_read_beside_many_files(tmp_path):
    write_many(tmp_path, FEW + 1)
    command = [*COMMAND, "--jobs", "2", "-", "."]
    result = subprocess.run(command, input=WRONG, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "--> -:9:3" in result.stderr
    assert "10 configs checked in 1 folder: 3 with errors\n" in result.stderr


def test_options_hold_for_every_config(tmp_path):
    write_many(tmp_path, 2)
    result = check(".", "--set", "training_args.learning_rate=fast", cwd=tmp_path)
    assert result.stderr.count("must be a number, not text") == 1
    assert "2 configs checked in 1 folder: 2 with errors\n" in result.stderr


def test_a_terminal_sees_how_far_a_long_check_is(tmp_path):
    write_many(tmp_path, 3)
    code = "import silogen_compiler.commands.check as c; c.PATIENCE = 0; c.check(['.'])"
    master, slave = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=slave, check=False, cwd=tmp_path)
    os.close(slave)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert shown.startswith("\r1 of 3 files\r2 of 3 files\r3 of 3 files\r\x1b[K")
    assert "of 3 files" not in check(".", cwd=tmp_path).stderr
