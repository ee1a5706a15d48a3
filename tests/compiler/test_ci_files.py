"""The hooks for pre-commit and the action for GitHub do what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from paths import CASES, ROOT
from program import on_path
from silogen_compiler.search import ENDINGS

HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step.get("name", step.get("uses")): step for step in ACTION["runs"]["steps"]}


@pytest.fixture
def repository(tmp_path):
    """Return a folder with a config that is wrong and files that are none, and its environment."""
    environment = on_path(tmp_path / "bin")
    folder = tmp_path / "repository"
    (folder / "configs").mkdir(parents=True)
    shutil.copy(CASES / "invalid" / "misspelled-key.yaml", folder / "configs" / "run.yaml")
    (folder / "compose.yaml").write_text("services: {}\n")
    return folder, environment


def mend(folder):
    shutil.copy(CASES / "valid" / "lora.yaml", folder / "configs" / "run.yaml")


def run(command, repository):
    folder, environment = repository
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", HOOKS)
def test_the_command_of_a_hook(name, repository):
    hook = HOOKS[name]
    command = [*shlex.split(hook["entry"]), *hook["args"]]
    before = run(command, repository)
    if name == "silogen-check":
        assert before.returncode == 1
        assert "configs/run.yaml:9:3" in before.stderr
    mend(repository[0])
    assert run(command, repository).returncode == 0


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_starts_with_the_files_that_the_command_reads(name):
    hook = HOOKS[name]
    assert all(re.search(hook["files"], f"a/b{ending}") for ending in ENDINGS)
    assert not re.search(hook["files"], "a.yaml.txt")
    assert (hook["pass_filenames"], hook["language"]) == (False, "python")


def step(name, repository, **inputs):
    """Run a step of the action as the runner does: its environment with the inputs filled in, in bash."""
    folder, environment = repository
    given = {key: spec["default"] for key, spec in ACTION["inputs"].items()} | inputs
    own = {
        key: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: given[match[1]], text)
        for key, text in STEPS[name]["env"].items()
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]]
    return run(command, (folder, {**environment, **own}))


def test_the_action_shows_findings_beside_the_lines_and_fails(repository):
    result = step("Check", repository)
    assert result.returncode == 1
    assert result.stdout.startswith("::error file=configs/run.yaml,line=9,endLine=9,col=3,")
    mend(repository[0])
    result = step("Check", repository, paths="configs compose.yaml", options="--world-size 2")
    assert result.returncode == 1  # a file that is named is checked
    assert "file=compose.yaml" in result.stdout
    assert step("Check", repository, paths="configs").returncode == 0


def test_the_action_writes_a_log_and_goes_on_to_upload_it(repository):
    assert step("Write SARIF", repository, sarif="found.sarif").returncode == 0
    (run,) = json.loads((repository[0] / "found.sarif").read_text())["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["SG201"]
    assert step("Write SARIF", repository, sarif="found.sarif", options="--no-such-option").returncode != 0


def test_the_action_uploads_only_what_was_asked_for():
    assert [STEPS[name]["if"] for name in ("Write SARIF", "Upload SARIF")] == ["inputs.sarif != ''"] * 2
    used = {*re.findall(r"inputs\.(\w+)", json.dumps(ACTION["runs"]))}
    assert used == {*ACTION["inputs"]}
    assert not any("${{" in spec.get("run", "") for spec in STEPS.values())  # inputs are no code


@pytest.mark.skipif(
    not (os.environ.get("SILOGEN_TEST_INSTALLS") and shutil.which("pre-commit")),
    reason="installs from PyPI: set SILOGEN_TEST_INSTALLS and install pre-commit",
)
def test_pre_commit_runs_the_hook_of_the_last_commit(repository):
    folder, environment = repository
    revision = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    repo = {"repo": str(ROOT), "rev": revision, "hooks": [{"id": "silogen-check"}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [repo]}))
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=folder, check=True)
    repository = folder, {**environment, "PRE_COMMIT_HOME": str(folder.parent / "home"), "PYTHONPATH": ""}
    command = [shutil.which("pre-commit"), "run", "--all-files"]
    before = run(command, repository)
    assert "unknown key `learning_rte`" in before.stdout
    assert before.returncode == 1
    mend(folder)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    assert run(command, repository).returncode == 0
