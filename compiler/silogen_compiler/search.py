"""The configs among files and folders: which files there are, and which of them are configs."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.diagnostics import Refused
from silogen_compiler.load import MAX_BYTES, load_text
from silogen_compiler.lower.lowering import API_VERSION
from silogen_compiler.schema import bundle, deref

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENDINGS = (".yaml", ".yml", ".toml", ".json")
SKIPPED_FOLDERS = {"node_modules", "__pycache__"}  # and all whose name starts with a dot


class Candidate(NamedTuple):
    """A file to check; one that is named is a config, one found in a folder has to look like one."""

    name: str
    is_named: bool


def find_files(names: Iterable[str]) -> list[Candidate]:
    """Return each file of `names` once, and those in its folders, in the order of names and then of paths."""
    found: dict[str, Candidate] = {}
    for name in names:
        if os.path.isdir(name):  # noqa: PTH112 - names are kept as they are written
            for path in _walk(name):
                found.setdefault(path, Candidate(path, is_named=False))
        else:
            found[os.path.normpath(name)] = Candidate(name, is_named=True)
    return list(found.values())


def _walk(folder: str) -> Iterator[str]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS
        )
        for name in sorted(files):
            path = os.path.normpath(f"{at}/{name}")
            if name.lower().endswith(ENDINGS) and os.path.isfile(path):  # noqa: PTH113 - as above
                yield path


def is_config(name: str) -> bool:
    """Return whether a file has a section of a config at its top level. A resolved config is none.

    Of a file that cannot be parsed, the text decides; one that cannot be read counts, so that it is reported.
    """
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - as above
            raw = file.read(MAX_BYTES)
    except OSError:
        return True
    if not any(section.encode() in raw for section in sections()):
        return False
    try:
        data = load_text(name, raw.decode("utf-8-sig")).data
    except (Refused, UnicodeDecodeError):
        return _at_top_level().search(raw) is not None
    return not sections().isdisjoint(data) and data.get("apiVersion") != API_VERSION


@cache
def sections() -> frozenset[str]:
    """Return the sections whose names no other kind of file is likely to use, such as data_conf."""
    methods = [deref(branch["then"]) for branch in deref(bundle())["allOf"]]
    names = {name for method in methods for name in method["properties"]}
    return frozenset(name for name in names if name.endswith(("_conf", "_args")))


@cache
def _at_top_level() -> re.Pattern[bytes]:
    """Return what a section's name looks like in YAML or TOML at the start of a line, and in JSON."""
    names = "|".join(sorted(sections()))
    return re.compile(rf"""^(?:\[*["']?|[\s{{]*")(?:{names})\b""".encode(), re.MULTILINE)
