"""Python as text: values, blocks of text, and the imports that a script needs."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from silogen_compiler.emit.yaml_text import fits_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH = 110

# Where the names come from that a script may use; those of its classes come on top.
IMPORTS = {
    "copy": "",
    "json": "",
    "os": "",
    "sys": "",
    "pyarrow": "",
    "torch": "",
    "Dataset": "datasets",
    "interleave_datasets": "datasets",
    "PeftModel": "peft",
    "prepare_model_for_kbit_training": "peft",
    "AddedToken": "transformers",
    "AutoModelForCausalLM": "transformers",
    "AutoTokenizer": "transformers",
    "DataCollatorForSeq2Seq": "transformers",
    "set_seed": "transformers",
    "DataCollatorForPreference": "trl.trainer.dpo_trainer",
    "align_special_tokens": "transformers.trainer_utils",
    "get_last_checkpoint": "transformers.trainer_utils",
}
OWN = ("copy", "json", "os", "sys")


def literal(value: Any, *, numbers: bool = False) -> str:
    """Return a value as Python; with `numbers`, text of digits is the number of a GPU."""
    if isinstance(value, str):
        if numbers and value.isdecimal():
            return f"int({literal(value)})"
        plain = value.isprintable() and not {'"', "\\"} & set(value)
        return f'"{value}"' if plain else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(literal(item, numbers=numbers) for item in value)}]"
    if isinstance(value, dict):
        pairs = (
            f"{_key(key, numbers=numbers)}: {literal(item, numbers=numbers)}" for key, item in value.items()
        )
        return f"{{{', '.join(pairs)}}}"
    return repr(value)


def _key(key: str, *, numbers: bool) -> str:
    """Return the key of a mapping as Python, where the number of a GPU is a number."""
    return key if numbers and key.isdecimal() and key == str(int(key)) else literal(key, numbers=numbers)


def block(text: str) -> str:
    """Return a text of several lines as they are, where Python can hold it so."""
    fits = fits_block(text) and '"""' not in text and text[-1] not in '"\\'
    return f'r"""{text}"""' if fits else literal(text)


def printable(text: str) -> str:
    """Return a text as a docstring or comment can hold it."""
    return literal(text)[1:-1].replace('"""', r"\"\"\"")


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, and of one type."""
    return type(one) is type(other) and bool(one == other)


def fill(words: Sequence[str], width: int) -> Iterator[str]:
    """Yield lines of words that are at most `width` wide where a word is."""
    line = ""
    for word in words:
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    if line:
        yield line


def imports_of(script: str, resolved: dict[str, Any]) -> list[str]:
    """Return the imports of the names that the script uses."""
    quantization, peft = resolved["quantization"] or {}, resolved["peft"] or {}
    trainer = resolved["trainer"]
    table = IMPORTS | {trainer["class"]: "trl", trainer["args_class"]: "trl"}
    table |= {quantization.get("class", ""): "transformers", peft.get("class", ""): "peft"}
    used = {node.id for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Name)}
    own = [f"import {name}" for name in OWN if name in used]
    packages = [f"import {name}" for name in ("pyarrow", "torch") if name in used]
    for module in sorted(set(table.values()) - {""}):
        names = sorted(name for name, source in table.items() if source == module and name in used)
        packages += _import_from(module, names) if names else []
    return [*own, "", *packages]


def _import_from(module: str, names: Sequence[str]) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    return (
        [line]
        if len(line) <= WIDTH
        else [f"from {module} import (", *(f"    {name}," for name in names), ")"]
    )
