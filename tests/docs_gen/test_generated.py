"""What is generated is what schema/ says; the check names the command that mends it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from paths import ROOT

SEED = (
    next((ROOT.parent / "shared" / "seeds").glob("002_*"), None)
    if (ROOT.parent / "shared").exists()
    else None
)


def test_nothing_has_drifted():
    command = [sys.executable, "-m", "silogen_docs", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_stale_file_is_named_with_the_command_that_mends_it():
    path = ROOT / "docs" / "reference" / "overrides.md"
    text = path.read_text("utf-8")
    path.write_text(text + "\n", "utf-8")
    try:
        command = [sys.executable, "-m", "silogen_docs", "--check"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        path.write_text(text, "utf-8")
    assert result.returncode == 3
    assert "stale: docs/reference/overrides.md" in result.stdout
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
