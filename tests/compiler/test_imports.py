"""Which package may import which, and what a cold compile may load."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from paths import ROOT

FOLDERS = {
    "silogen_config": "generated",
    "silogen_compiler": "compiler",
    "silogen_runtime": "runtime",
    "silogen_docs": "docs_gen",
}
MAY_IMPORT = {
    "silogen_config": set(),
    "silogen_compiler": {"silogen_config"},
    "silogen_runtime": {"silogen_config", "silogen_compiler"},
    "silogen_docs": {"silogen_config", "silogen_compiler"},
}
TRAINING = {"torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "mlflow"}


def imported(path):
    """Return the top-level packages that a module imports when it runs, anywhere in it."""
    nodes = [ast.parse(path.read_text("utf-8"))]
    for node in nodes:
        is_for_types = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        nodes += [] if is_for_types else ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_run_one_way(package):
    modules = list((ROOT / FOLDERS[package] / package).rglob("*.py"))
    assert modules
    allowed = MAY_IMPORT[package] | {package}
    for module in modules:
        assert set(imported(module)) & FOLDERS.keys() <= allowed, module


@pytest.mark.parametrize("package", sorted(FOLDERS.keys() - {"silogen_runtime"}))
def test_only_the_runtime_imports_what_trains(package):
    for module in (ROOT / FOLDERS[package] / package).rglob("*.py"):
        assert not set(imported(module)) & TRAINING, module


@pytest.mark.parametrize("case", ["valid/lora.yaml", "valid/toml.toml", "invalid/many-mistakes-at-once.yaml"])
def test_a_compile_loads_nothing_heavy(case):
    code = (
        "import sys; from silogen_compiler.commands.compile import compile_command\n"
        "try: compile_command()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'jinja2', 'rich', 'jsonschema', 'tomlkit'}\n"
        "heavy &= sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    path = ROOT / "tests" / "cases" / case
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
