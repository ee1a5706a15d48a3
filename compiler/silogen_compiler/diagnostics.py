"""What the compiler and the runtime have to say about a config: diagnostics and their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A piece of one line of a file. Lines and columns count characters from 1; `end` is exclusive."""

    file: str
    line: int
    column: int
    end: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Note(NamedTuple):
    """A second place that a finding is about: another key, or the layer below, and what stands there."""

    text: str
    span: Span | None


class Edit(NamedTuple):
    """One change of what a file holds at `path`: a new name for the key, a new value, or both.

    A path that the file does not have yet is added. With neither a key nor a value, the entry is removed.
    """

    path: tuple[str | int, ...]
    key: str | None = None
    value: Any = ...


class Fix(NamedTuple):
    """The edits that mend a finding. A safe fix leaves what the config means as it is."""

    edits: tuple[Edit, ...]
    is_safe: bool = True


def removal(key: str, *, is_safe: bool = True) -> Fix:
    """Return the fix that removes the entry at a dotted key."""
    return Fix((Edit(tuple(key.split("."))),), is_safe)


class Diagnostic(NamedTuple):
    """One finding.

    `label` stands behind the carets under the source line and says what to write instead; `help` is a longer
    remedy; `notes` name further places: the schema definition as text, another key or layer with its place.
    `file` is the file that the finding is about where it has no span (a file that cannot be read).
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    help: str = ""
    notes: tuple[str | Note, ...] = ()
    file: str = ""
    fix: Fix | None = None

    @property
    def severity(self) -> str:
        """`error` or `warning`, as the code's entry in CODES says."""
        from silogen_compiler.codes import CODES  # noqa: PLC0415 - start-up time

        return CODES[self.code].severity


Findings = Iterator[Diagnostic]


class Refused(Exception):  # noqa: N818 - the run is refused; the findings say why
    """Ends a command with findings about the person's input: raised where work cannot go on."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in diagnostics))
        self.diagnostics = diagnostics


def has_errors(diagnostics: list[Diagnostic]) -> bool:
    return any(d.severity == "error" for d in diagnostics)
