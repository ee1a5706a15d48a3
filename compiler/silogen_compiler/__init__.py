"""From a fine-tuning config to the exact keyword arguments of the libraries."""

from silogen_compiler.diagnostics import Diagnostic, Edit, Fix, Note, Span
from silogen_compiler.pipeline import Compiled, check, compile_data, compile_file, compile_text

__all__ = [
    "Compiled",
    "Diagnostic",
    "Edit",
    "Fix",
    "Note",
    "Span",
    "check",
    "compile_data",
    "compile_file",
    "compile_text",
]
