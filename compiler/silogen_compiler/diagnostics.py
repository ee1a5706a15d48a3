"""What the compiler and the runtime have to say about a config: diagnostics and their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """A piece of one line of a file. Lines and columns count characters from 1; `end` is exclusive."""

    file: str
    line: int
    column: int
    end: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Diagnostic(NamedTuple):
    """One finding.

    `label` stands behind the carets under the source line and says what to write instead; `help` is a longer
    remedy; `notes` name further places: the schema definition, another key. `file` is the file that the
    finding is about where it has no span (a file that cannot be read).
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    help: str = ""
    notes: tuple[str, ...] = ()
    file: str = ""

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
