"""Every finding of the compiler, and every older key, has a case."""

from __future__ import annotations

import re

from cases import CASES, inputs
from silogen_compiler.codes import CODES
from silogen_compiler.migrate import MIGRATIONS

# Codes that no case file can print, with the reason.
NO_CASE = {
    "SG120": "needs a lock (test_lock.py)",
    "SG121": "needs a lock (test_lock.py)",
    "SG505": "the config is right, and the format that is asked for can't hold it (test_formats.py)",
}
FIRST_OF_DATA = "SG6"


def test_every_code_is_printed_by_a_case():
    printed = "".join(path.read_text("utf-8") for path in CASES.rglob("*.txt"))
    named = {*re.findall(r"^(?:error|warning)\[(SG\d+)\]", printed, re.MULTILINE)}
    assert {code for code in CODES if code < FIRST_OF_DATA} - named == {*NO_CASE}


def test_every_older_key_is_in_a_case():
    paths = [*inputs("valid").values(), *inputs("invalid").values()]
    text = b"\n".join(path.read_bytes() for path in paths).decode("utf-8", "replace")
    assert [row.old for row in MIGRATIONS if not re.search(rf"^ +{row.old}:", text, re.MULTILINE)] == []
