"""The scripts that `silogen compile --format python` writes, read back to the resolved config.

The arguments are read from the calls, everything else from the comment at the end. Nothing is executed.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused, Span
from silogen_compiler.load import Mark, Path, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "silogen:"
REFERENCE = re.compile(r"\$\{env:(\w+)\}")


def read(name: str, text: str) -> Tree:
    """Return the resolved config that a script was written from. Refused where it is another script."""
    try:
        tree = ast.parse(text)
        data, line = _rest(text)
        calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for function, (*sections, last) in calls_of(data).items():
            place(data, sections)[last] = _keywords(calls[function])
        template = data["tokenizer"]["chat_template"]
        if "template" not in template:
            template["template"] = _constant(tree, "CHAT_TEMPLATE")
    except (SyntaxError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise Refused(_not_ours(name, error)) from None
    span = Span(name, line, 1, 1)
    return Tree(data, {(key,): Mark(span, span) for key in data})


def calls_of(resolved: dict[str, Any]) -> dict[str, Path]:
    """Return the calls of a script by what they call, each with the place of its keyword arguments."""
    quantization, peft = resolved["quantization"] or {}, resolved["peft"] or {}
    calls: dict[str, Path] = {
        resolved["trainer"]["args_class"]: ("trainer", "args"),
        "AutoTokenizer.from_pretrained": ("tokenizer", "from_pretrained"),
        "AutoModelForCausalLM.from_pretrained": ("model", "from_pretrained"),
    }
    if "class" in quantization:
        calls[quantization["class"]] = ("quantization", "kwargs")
    if "class" in peft:
        calls[peft["class"]] = ("peft", "kwargs")
    return calls


def place(data: Any, path: Sequence[str | int]) -> Any:
    """Return what stands at `path`."""
    for key in path:
        data = data[key]
    return data


def _rest(text: str) -> tuple[dict[str, Any], int]:
    """Return what the comment at the end holds, and its line."""
    head, _, tail = text.rpartition(f"\n# {MARK} ")
    if not head:
        raise ValueError("it has no comment of silogen's at its end")
    data: dict[str, Any] = json.loads(tail.replace("\n#", "\n"))
    return data, head.count("\n") + 2


def _keywords(call: ast.Call) -> dict[str, Any]:
    """Return the keyword arguments of a call that are written out in it."""
    return {
        keyword.arg: _value(keyword.value)
        for keyword in call.keywords
        if keyword.arg and not isinstance(keyword.value, ast.Name)
    }


def _value(node: ast.expr) -> Any:
    """Return what an argument stands for in the resolved config, where keys are text."""
    if isinstance(node, ast.Subscript):
        return f"${{env:{ast.literal_eval(node.slice)}}}"
    if isinstance(node, ast.Call):
        return ast.literal_eval(node.args[0])
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {str(_value(key)): _value(item) for key, item in pairs if key}
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)


def _constant(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


def _not_ours(name: str, error: Exception) -> Diagnostic:
    line = getattr(error, "lineno", None)
    span = Span(name, line, 1, 1) if line else None
    message = f"not a script that `silogen compile --format python` wrote: {error}"
    return Diagnostic("SG103", message, span, file=name)
