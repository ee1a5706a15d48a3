"""What the README shows is what the commands print."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from paths import ROOT

BLOCKS = re.findall(r"```\n(\$ .*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[-1][:30] for block in BLOCKS])
def test_commands_print_what_is_shown(block, tmp_path):
    commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    shown = [line for line in block.splitlines() if line and not line.startswith("$ ")]
    run = f"{sys.executable} -c 'from silogen_compiler.cli import main; main()' "
    script = " && ".join(re.sub("^silogen ", run, command) for command in commands)
    (tmp_path / "build").mkdir()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    result = subprocess.run(script, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    printed = (result.stdout + result.stderr).splitlines()
    assert shown
    assert [line for line in shown if line not in printed] == []
