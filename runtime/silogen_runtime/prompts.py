"""What a trained model is asked: texts, lines of a file, or the validation data of a run."""

from __future__ import annotations

import sys
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from silogen_compiler.diagnostics import Diagnostic, Refused, Span, has_errors

from silogen_runtime.data import load_data, prepare_files
from silogen_runtime.examples import Preference, read_example
from silogen_runtime.failures import explain_failures
from silogen_runtime.lines import Line, read_lines
from silogen_runtime.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from silogen_config import ResolvedConfig

    from silogen_runtime.examples import Example, Message
    from silogen_runtime.saved import Saved

DATA_FILE = (".jsonl", ".json", ".gz", ".zst")


class Prompt(NamedTuple):
    """Messages that the model is to answer, the answer of the data, and the line that they are from."""

    messages: list[Message]
    reference: str | None = None
    span: Span | None = None


def read_prompts(
    saved: Saved, console: Console, *, texts: Sequence[str], file: str | None, system: str | None
) -> list[Prompt]:
    """Return the texts, or the lines of the file, or without both what the run validated on."""
    if texts:
        return from_texts(texts, system)
    with explain_failures("reading the prompts"):
        prompts = from_file(file, system) if file is not None else from_validation(saved, console)
    if not prompts:
        raise Refused(Diagnostic("SG758", f"`{file}` holds no prompt", file=file or ""))
    return prompts


def from_texts(texts: Sequence[str], system: str | None) -> list[Prompt]:
    """Return each text as a message of the user, after the system message where there is one."""
    above = [{"role": "system", "content": system}] if system is not None else []
    return [Prompt([*above, {"role": "user", "content": text}]) for text in texts]


def from_file(path: str, system: str | None) -> list[Prompt]:
    """Return the conversations of a data file; of any other file each line that is not blank."""
    if path.endswith(DATA_FILE):
        if system is not None:
            message = f"`--system` has no effect on the conversations in `{path}`"
            raise Refused(Diagnostic("SG757", message, help="write the system messages there", file=path))
        return list(_examples(path, "ChatConversation"))
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise Refused(Diagnostic("SG758", f"`{path}` is not UTF-8 text", file=path)) from None
    lines = text.removeprefix("\ufeff").split("\n")  # splitlines knows other ends, which stand within texts
    return from_texts([line for line in lines if line.strip()], system)


def from_validation(saved: Saved, console: Console) -> list[Prompt]:
    """Return what the run validated on, in the order of its files."""
    if saved.config is None:
        message = (
            f"no run left its resolved.json beside `{saved.folder}`, so it is not known what it validated on"
        )
        raise Refused(
            Diagnostic("SG758", message, help="give `--prompts`, or the config in place of the folder")
        )
    data_type = saved.config.data.data_type
    places = validation_lines(saved.config, console)
    return [prompt for path, numbers in places.items() for prompt in _examples(path, data_type, numbers)]


def validation_lines(config: ResolvedConfig, console: Console) -> dict[str, set[int]]:
    """Return the numbers of the lines that a run validated on, by file."""
    chat = load_tokenizer(config)
    validation = load_data(config, chat, console, max_bad_lines=sys.maxsize).validation
    if validation is None:
        help_text = "give `--prompt` or `--prompts`; validation_data of the config is NONE"
        raise Refused(Diagnostic("SG758", "the run has no validation data", help=help_text))
    files = prepare_files(config, chat, console)
    ends = list(accumulate(len(file.examples) for file in files))
    lines: dict[str, set[int]] = {}
    for row in sorted({*validation.rows}):
        file = files[bisect_right(ends, row)]
        start = ends[bisect_right(ends, row)] - len(file.examples)
        lines.setdefault(file.path, set()).add(file.examples[row - start]["line"])
    return lines


def _examples(path: str, data_type: str, numbers: set[int] | None = None) -> Iterator[Prompt]:
    """Yield the lines of a data file, or those of `numbers`. Refused where one is not of the data type."""
    for line in read_lines(path):
        if not isinstance(line, Line):
            raise Refused(line)
        if numbers is None or line.number in numbers:
            example, findings = read_example(line, path, data_type)
            if example is None or has_errors(findings):
                raise Refused(*findings)
            yield _prompt(example)


def _prompt(example: Example) -> Prompt:
    """Return an example up to its last answer, or the whole where it has none. Refused where that is all."""
    if isinstance(example, Preference):
        return Prompt(example.prompt, example.chosen[-1]["content"], example.span)
    turns = [at for at, message in enumerate(example.messages) if message["role"] == "assistant"]
    if not turns:
        return Prompt(example.messages, None, example.span)
    if turns[-1] == 0:
        message = "this conversation has nothing before its answer"
        raise Refused(
            Diagnostic("SG758", message, example.span, help="write what it answers, or leave it out")
        )
    return Prompt(example.messages[: turns[-1]], example.messages[turns[-1]]["content"], example.span)
