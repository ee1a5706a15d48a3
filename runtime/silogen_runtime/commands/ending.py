"""How the commands for trained models begin and end."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from silogen_compiler.commands.report import EXIT_FAILED
from silogen_compiler.diagnostics import Refused

from silogen_runtime.cli import missing_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_compiler.commands.report import Report


@contextmanager
def refusals(report: Report, work: str) -> Iterator[None]:
    """End the command with what refuses the block, or at once where packages for the `work` are missing."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns while it is imported
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)  # and it too
    try:
        require_packages(work)
        yield
    except Refused as refused:
        report.show(refused.diagnostics, {})
        raise SystemExit(EXIT_FAILED) from None


def require_packages(work: str) -> None:
    if missing := missing_packages(work):
        raise Refused(*missing)
