"""Data files: one JSON object a line, each checked against its data type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError
from silogen_compiler.diagnostics import Diagnostic, Span
from silogen_config import ChatConversation

from silogen_runtime.chat import Conversation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

BOM = b"\xef\xbb\xbf"

WORDING = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


# What other formats call the keys of a conversation.
ALIASES = {"conversation": "messages", "conversations": "messages", "from": "role", "value": "content"}


class File(NamedTuple):
    """The conversations of a file, in order, and what is wrong with its lines."""

    conversations: list[Conversation]
    diagnostics: list[Diagnostic]


def read_file(path: str) -> File:
    """Read a JSONL file in UTF-8. Blank lines are skipped; a byte order mark and CRLF are fine."""
    file = File([], [])
    with Path(path).open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            line = raw.removeprefix(BOM).strip() if number == 1 else raw.strip()
            if line:
                _read_line(file, line, Span(path, number, 1, 1))
    if not file.conversations and not file.diagnostics:
        file.diagnostics.append(Diagnostic("SG601", f"`{path}` holds no conversation", file=path))
    return file


def _read_line(file: File, line: bytes, span: Span) -> None:
    """Add what `line` holds to `file`: a conversation, findings, or both."""
    try:
        parsed = ChatConversation.model_validate_json(line.decode())
    except UnicodeDecodeError as error:
        file.diagnostics.append(
            Diagnostic(
                "SG604", f"byte {error.start + 1} of this line is not UTF-8", span, help="save it as UTF-8"
            )
        )
        return
    except ValidationError as error:
        file.diagnostics.extend(_explain(error, span))
        return
    messages = [{"role": message.role, "content": message.content} for message in parsed.messages]
    file.conversations.append(Conversation(messages, span.file, span.line))
    if all(message["role"] != "assistant" for message in messages):
        file.diagnostics.append(Diagnostic("SG605", "this conversation has no assistant turn", span))


def _explain(error: ValidationError, span: Span) -> Iterator[Diagnostic]:
    for details in error.errors(include_url=False, include_input=False):
        if details["type"] == "json_invalid":
            message = f"this line is not JSON: {details['ctx']['error']}"
            yield Diagnostic("SG602", message, span, help="write each conversation on one line")
        else:
            yield Diagnostic("SG603", _wrong_shape(details), span, help=_called(details))


def _called(details: ErrorDetails) -> str:
    """Return what an unknown key is called here, or an empty text."""
    name = ALIASES.get(str(details["loc"][-1])) if details["type"] == "extra_forbidden" else None
    return f"it is called `{name}` here" if name else ""


def _wrong_shape(details: ErrorDetails) -> str:
    """Return, say, "`messages[0].role` is missing"."""
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in details["loc"])
    problem = WORDING.get(details["type"], details["msg"])
    return f"`{place.removeprefix('.')}` {problem}" if place else f"a line {problem}"
