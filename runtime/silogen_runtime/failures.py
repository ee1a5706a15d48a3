"""Failures of the libraries as diagnostics."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from peft import NoMatchingPeftModuleError
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.rules.secrets import without_credentials

from silogen_runtime.memory import is_out_of_memory, out_of_memory
from silogen_runtime.mlflow_client import reason
from silogen_runtime.outputs import output_dir
from silogen_runtime.space import disk_full, is_disk_full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_config import ResolvedConfig

TRACEBACK = "SILOGEN_TRACEBACK"  # environment variable that lets failures without a remedy pass as they are

TRACKING_HELP = (
    "write `sqlite:////absolute/path/mlflow.db` or the URL of a server as `mlflow_server_uri`,"
    " and only a `run_id` that is there; `--set tracking=null` trains without MLflow"
)


LOADING_HELP = "check the path or the name; a private model needs `token: ${env:HF_TOKEN}` in model_args"


@contextmanager
def explain_failures(stage: str, config: ResolvedConfig | None = None) -> Iterator[None]:
    """Turn any exception into Refused, with a remedy where there is one to name, else with the stage.

    Remedies name the values of `config`, the config of the run, where it is given.
    """
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        finding = _exhausted(error, stage, config) or explain(error)
        if finding is None and os.environ.get(TRACEBACK):
            raise
        raise Refused(finding or _failed(stage, error)) from error


def explain(error: Exception) -> Diagnostic | None:
    """Return what to tell a person about `error`; None where that is nothing but its own text."""
    first_line = without_credentials(str(error)).partition("\n")[0]
    if isinstance(error, NoMatchingPeftModuleError):
        help_text = "write `target_modules: all-linear`, or names of the model's own layers"
        return Diagnostic("SG719", f"the adapter does not fit the model: {first_line}", help=help_text)
    if type(error).__module__.partition(".")[0] == "mlflow":
        return Diagnostic("SG731", f"MLflow refuses: {reason(error)}", help=TRACKING_HELP)
    if isinstance(error, OSError) and error.errno is not None:  # the system's, a library's own has no number
        return Diagnostic(
            "SG723",
            f"{(error.strerror or first_line).lower()}: {error.filename or 'unknown file'}",
            help="mend the permissions, or name another folder",
        )
    if isinstance(error, OSError) or first_line.startswith("Can't find 'adapter_config.json'"):
        return Diagnostic("SG720", f"can't load: {first_line}", help=LOADING_HELP)
    return None


def _exhausted(error: Exception, stage: str, config: ResolvedConfig | None) -> Diagnostic | None:
    """Return what to say where memory or the disk has run out."""
    if is_out_of_memory(error):
        return out_of_memory(str(error).partition("\n")[0], stage, config)
    if not is_disk_full(error):
        return None
    output = output_dir(config) if config else None
    limit = config.trainer.args.get("save_total_limit") if config else None
    return disk_full(getattr(error, "filename", None) or output or ".", limit)


def _failed(stage: str, error: Exception) -> Diagnostic:
    text = without_credentials(str(error)).strip().partition("\n")[0]
    kind = type(error).__name__
    return Diagnostic(
        "SG734",
        f"{stage} failed: {kind}: {text}" if text else f"{stage} failed: {kind}",
        help=f"set {TRACEBACK}=1 to see where",
    )
