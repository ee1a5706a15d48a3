"""What is generated is what schema/ says; the check names the command that mends it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from paths import ROOT
from silogen_docs.__main__ import main

SEED = (
    next((ROOT.parent / "shared" / "seeds").glob("002_*"), None)
    if (ROOT.parent / "shared").exists()
    else None
)


def test_what_has_drifted_is_named_with_the_command_that_mends_it(tmp_path, monkeypatch):
    """One file is made stale in a copy, so that no other may be: the real ones have not drifted."""
    empty = Path("generated", "silogen_config", "py.typed")
    assert (ROOT / empty).read_text("utf-8") == ""
    for folder in ("generated", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / empty).write_text("stale", "utf-8")
    monkeypatch.setattr("silogen_docs.__main__.ROOT", tmp_path)
    result = CliRunner().invoke(main, ["--check"])
    assert result.stdout == f"stale: {empty}\n"
    assert result.exit_code == 3
    assert "make generate" in result.stderr


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda path: path.stem
)
def test_tables_and_links_of_a_reference_page(page):
    text = page.read_text("utf-8")
    for row in (line for line in text.split("\n") if line.startswith("| ")):
        assert row.replace("\\|", "").count("|") == {"index": 3}.get(page.stem, 7), row
    for file, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", text):
        target = (page.parent / file if file else page).read_text("utf-8")
        assert anchor in [heading.lower() for heading in re.findall(r"^## (\w+)$", target, re.MULTILINE)]


@pytest.mark.skipif(SEED is None, reason="the fine-tuning document is not here")
def test_every_definition_of_the_fine_tuning_document_has_a_heading():
    names = re.findall(r"^(\w+)#$", SEED.read_text("utf-8"), re.MULTILINE)
    definitions = [name for name in names if name != "Definitions"]
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert len(definitions) > 20
    assert [name for name in definitions if f"\n## {name}\n" not in pages] == []
