"""Failures of the libraries that a person can do something about, as diagnostics."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft import NoMatchingPeftModuleError
from silogen_compiler.diagnostics import Diagnostic, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def explain_failures() -> Iterator[None]:
    """Turn a library's exception into Refused where there is a remedy to name; others pass."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError, ValueError) as error:
        finding = explain(error)
        if finding is None:
            raise
        raise Refused(finding) from error


def explain(error: Exception) -> Diagnostic | None:
    """Return what to tell a person about `error`; None where that is nothing but its own text."""
    first_line = str(error).partition("\n")[0]
    if is_out_of_memory(error):
        return Diagnostic(
            "SG718",
            f"out of memory: {first_line}",
            help="lower `max_per_device_train_batch_size` or `max_seq_length`,"
            " write `gradient_checkpointing: true`, or load the model in 4 bits with an adapter",
        )
    if isinstance(error, NoMatchingPeftModuleError):
        return Diagnostic("SG719", f"the adapter does not fit the model: {first_line}")
    if isinstance(error, OSError) and error.errno is not None:  # the system's, a library's own has no number
        return Diagnostic(
            "SG723", f"{(error.strerror or first_line).lower()}: {error.filename or 'unknown file'}"
        )
    if isinstance(error, OSError) or first_line.startswith("Can't find 'adapter_config.json'"):
        return Diagnostic("SG720", f"can't load: {first_line}")
    return None


def is_out_of_memory(error: Exception) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
