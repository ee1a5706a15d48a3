"""The case folders: an input beside its exact expected output."""

from __future__ import annotations

import re
from pathlib import Path

from silogen_compiler.pipeline import compile_file

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
INPUTS = {".yaml", ".json", ".toml"}


def inputs(folder):
    """Return the input files of a folder of cases, by name."""
    paths = sorted((CASES / folder).iterdir())
    return {path.name: path for path in paths if path.suffix in INPUTS and ".resolved" not in path.suffixes}


def examples():
    """Return the configs under examples/, by path."""
    paths = sorted((ROOT / "examples").rglob("*.yaml"))
    return {"-".join(path.relative_to(ROOT).parts): path for path in paths}


def expected(name, path):
    """Return where the expected output of a valid case is: beside it, for an example in cases/examples."""
    return path if CASES in path.parents else CASES / "examples" / name


def settings_of(path):
    """Return what a case's first line asks for: `# world_size: 4, target: hf-2025.11, set: a.b=1`."""
    first = path.read_bytes().split(b"\n", 1)[0].decode("utf-8", "replace")
    found = re.findall(r"(world_size|target|set): (\S+?)(?=,? |,?$)", first if first.startswith("# ") else "")
    options = {key: int(value) if key == "world_size" else value for key, value in found if key != "set"}
    settings = tuple(value for key, value in found if key == "set")
    return {**options, "settings": settings} if settings else options


def compile_case(path, monkeypatch):
    """Compile a case from inside its folder, so that findings name the bare file."""
    monkeypatch.chdir(path.parent)
    return compile_file(path.name, environment={}, **settings_of(path))


def expect(path, text, *, update):
    """Compare `text` with the file `path`, or write it there. No text means no file."""
    if update and text:
        path.write_text(text, "utf-8")
    elif update:
        path.unlink(missing_ok=True)
    assert text == (path.read_text("utf-8") if path.exists() else "")
