"""Completion as the shells do it: real ones, with the script that `silogen completion` prints."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from time import monotonic

import pytest
from program import MAIN, on_path
from silogen_compiler.cli import COMMANDS
from silogen_compiler.codes import CODES
from silogen_compiler.commands.completion import SHELLS, explained_names, keys, setting_keys

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SET_UP = {
    "bash": "source {script}; PS1=rea''dy\n",
    "zsh": "autoload -Uz compinit; compinit -u -D; source {script}; PS1=rea''dy\n",
}


CLEAR = "\x15"  # control-U empties the line


@pytest.fixture(scope="module")
def silogen(tmp_path_factory):
    """Return the environment of a shell that has `silogen` on its path, and the folder of the scripts."""
    tmp_path = tmp_path_factory.mktemp("shells")
    path = on_path(tmp_path / "bin")
    environment = {**path, "TERM": "dumb", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    for shell in SHELLS:
        command = [tmp_path / "bin" / "silogen", "completion", shell]
        script = subprocess.run(command, capture_output=True, check=True).stdout
        (tmp_path / f"script.{shell}").write_bytes(script)
    (tmp_path / "run one.yaml").write_text("")
    return environment, tmp_path


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, shell, environment, folder):
        self.process, self.terminal = pty.fork()
        if not self.process:
            os.chdir(folder)
            os.execvpe(shell, START[shell], environment)
        self.send(SET_UP[shell].format(script=folder / f"script.{shell}"), "ready")

    def send(self, text, until):
        """Type `text` and return what is shown up to `until`."""
        os.write(self.terminal, text.encode())
        shown, end = "", monotonic() + 30
        while until not in shown:
            ready, _, _ = select.select([self.terminal], [], [], max(end - monotonic(), 0))
            assert ready, f"{until!r} is not in {shown!r}"
            shown += os.read(self.terminal, 65536).decode()
        return shown

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.process, 0)


@pytest.fixture(scope="module", params=START)
def shell(request, silogen):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    terminal = Terminal(request.param, *silogen)
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("silogen comple\t", "completion"),
        ("silogen completion zs\t", "zsh"),
        ("silogen compile --world\t", "--world-size"),
        ("silogen compile --target silogen-\t", "silogen-engine-0.1"),
        ("silogen explain training_args.learning_ra\t", "training_args.learning_rate"),
        ("silogen check run\t", r"run\ one.yaml"),
    ],
)
def test_a_word_is_completed(shell, typed, completed):
    shown = shell.send(f"{CLEAR}{typed}next", "next")
    assert re.search(rf"{re.escape(completed)}[ \b]+next", shown)


def test_after_a_key_to_set_comes_its_value(shell):
    shown = shell.send(f"{CLEAR}silogen compile --set training_args.learning_ra\t1e-4", "1e-4")
    assert "--set training_args.learning_rate=1e-4" in shown


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("silogen comple", "completion\tPrint the script that completes commands and keys in a shell."),
        ("silogen compile --set training_args.learning_ra", "training_args.learning_rate="),
        ("silogen explain sg20", "SG201"),
    ],
)
def test_fish(silogen, typed, completed):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    environment, folder = silogen
    script = f"source {folder}/script.fish; complete -C '{typed}'"
    command = ["fish", "--no-config", "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert completed in result.stdout.splitlines()


def test_the_scripts_hold_what_is_put_into_clicks_own():
    for shell, (_, line, before) in SHELLS.items():
        command = [sys.executable, "-c", MAIN, "completion", shell]
        script = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert before + line in script


def test_completing_a_command_imports_none():
    code = (
        "import sys; from silogen_compiler.cli import silogen; import click\n"
        "names = [item.value for item in silogen.shell_complete(click.Context(silogen), '')]\n"
        "print(*names); sys.exit('silogen_runtime' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.split()) == (0, sorted(COMMANDS))


def test_keys_that_can_be_set_or_explained():
    assert {"method", "training_args.learning_rate", "peft_conf.peft_kwargs.r"} <= {*keys(in_lists=False)}
    assert "data_conf.training_data.datasets" in keys(in_lists=False)
    assert "data_conf.training_data.datasets.path" not in keys(in_lists=False)
    assert "data_conf.training_data.datasets.path" in keys(in_lists=True)
    assert setting_keys("run_conf.model") == [key for key in setting_keys("run_conf.") if ".model" in key]
    assert explained_names("sg2") == [code for code in CODES if code.startswith("SG2")]
