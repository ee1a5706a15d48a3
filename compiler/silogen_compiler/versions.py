"""Files as a git revision has them: `REV:path`."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.layers.extends import printable
from silogen_compiler.load import decode

if TYPE_CHECKING:
    from collections.abc import Callable

# A revision, which is no option and no letter of a drive, and a path.
REVISION = re.compile(r"([^-:\s][^:\s]+|@):(.+)", re.DOTALL)


def split_revision(name: str) -> tuple[str, str] | None:
    """Return the revision and the path that `name` is made of; None for a file and for any other name."""
    match = None if os.path.lexists(name) else REVISION.fullmatch(name)
    return (match[1], match[2]) if match else None


def from_revision(revision: str, path: str) -> Callable[[str], tuple[str, str]]:
    """Return what reads the file `path` and those that it extends from a revision.

    As for git, a path that begins with a dot is relative to the working directory, any other to the root.
    """
    here = "./" if path.startswith(".") else ""

    def read(name: str) -> tuple[str, str]:
        shown = printable(f"{revision}:{name}")
        return shown, decode(shown, _show(shown, f"{revision}:{here}{name}"))

    return read


def _show(shown: str, blob: str) -> bytes:
    """Return the bytes of a file in a revision. Raises Refused with what git says where there is none."""
    try:
        done = subprocess.run(["git", "cat-file", "blob", blob], capture_output=True, check=False)  # noqa: S603, S607 - git of the person's PATH, one argument that is no option
    except (OSError, ValueError) as error:
        reason = f"git cannot be run: {error}"
    else:
        if done.returncode == 0:
            return done.stdout
        reason = done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ").partition("\n")[0]
    raise Refused(Diagnostic("SG101", f"cannot read `{shown}`: {reason}", file=shown))
