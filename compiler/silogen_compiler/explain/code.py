"""What a code means, with an example of what is wrong and of what is right."""

from __future__ import annotations

from textwrap import fill, indent

from silogen_compiler.codes import CODES
from silogen_compiler.schema import read_json

WIDTH = 100


def explain_code(code: str) -> str:
    """Return the explanation of a code such as SG201, in any case; an empty text where there is none."""
    code = code.upper()
    if code not in CODES:
        return ""
    severity, title, meaning = CODES[code]
    head = f"{severity}[{code}]: {title}\n\n{fill(meaning, WIDTH, break_on_hyphens=False)}"
    example = read_json("code_examples.json").get(code)
    return f"{head}\n\n{_example(example)}" if example else head


def _example(example: dict[str, str]) -> str:
    given = f", {example['given']}" if example["given"] else ""
    parts = {f"Wrong{given}": "wrong", "silogen prints": "prints", "Right": "right"}
    return "\n\n".join(f"{head}:\n\n{_block(example[key])}" for head, key in parts.items())


def _block(text: str) -> str:
    return indent(text.strip("\n"), "    ")
