"""From lines of data files to examples, each checked against its data type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError
from silogen_compiler.diagnostics import Diagnostic, Span
from silogen_config import ChatConversation, DirectPreference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import ErrorDetails

    from silogen_runtime.lines import Line

    Message = dict[str, str]

MODELS: dict[str, type[ChatConversation | DirectPreference]] = {
    "ChatConversation": ChatConversation,
    "DirectPreference": DirectPreference,
}

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


# What other formats call the keys.
ALIASES = {
    "conversation": "messages",
    "conversations": "messages",
    "from": "role",
    "value": "content",
    "prompt": "prompt_messages",
    "chosen": "chosen_messages",
    "rejected": "rejected_messages",
}


class Conversation(NamedTuple):
    """One line of a file of conversations."""

    messages: list[Message]
    file: str
    line: int

    @property
    def span(self) -> Span:
        return Span(self.file, self.line, 1, 1)


class Preference(NamedTuple):
    """One line of a file of preferences: a prompt, with a better and a worse answer."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    file: str
    line: int

    @property
    def span(self) -> Span:
        return Span(self.file, self.line, 1, 1)


Example = Conversation | Preference
Read = tuple[Example | None, list[Diagnostic]]


def read_example(line: Line, path: str, data_type: str) -> Read:
    """Return what `line` holds, None where it is not of the data type, and what is wrong with it."""
    span = Span(path, line.number, 1, 1)
    try:
        parsed = MODELS[data_type].model_validate_json(line.text.decode())
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of this line is not UTF-8"
        return None, [Diagnostic("SG604", message, span, help="save it as UTF-8")]
    except ValidationError as error:
        return None, list(_explain(error, span))
    if isinstance(parsed, DirectPreference):
        return _preference(parsed, span)
    conversation = Conversation(_plain(parsed.messages), path, line.number)
    if any(message["role"] == "assistant" for message in conversation.messages):
        return conversation, []
    return conversation, [Diagnostic("SG605", "this conversation has no assistant turn", span)]


def _preference(parsed: DirectPreference, span: Span) -> Read:
    answers = {key: _plain(getattr(parsed, key)) for key in ("chosen_messages", "rejected_messages")}
    wrong = [
        Diagnostic("SG613", f"`{key}` does not begin and end with a message of the assistant", span)
        for key, messages in answers.items()
        if {messages[0]["role"], messages[-1]["role"]} != {"assistant"}
    ]
    if wrong:
        return None, wrong
    chosen, rejected = answers.values()
    same = [Diagnostic("SG614", "the chosen and the rejected answer are the same", span)]
    return Preference(_plain(parsed.prompt_messages), chosen, rejected, span.file, span.line), same * (
        chosen == rejected
    )


def _plain(messages: Sequence[Any]) -> list[Message]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _explain(error: ValidationError, span: Span) -> Iterator[Diagnostic]:
    for details in error.errors(include_url=False, include_input=False):
        if details["type"] == "json_invalid":
            problem = details["ctx"]["error"].replace(" at line 1 column", " at column")
            message = f"this line is not JSON: {problem}"
            yield Diagnostic("SG602", message, span, help="write each example on one line")
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
