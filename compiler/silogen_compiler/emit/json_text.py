"""The resolved config as JSON, which has no comments and so no origins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin


def emit(resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str] = ()) -> str:
    del origins, inputs
    return json.dumps(resolved, indent=2, ensure_ascii=False) + "\n"
