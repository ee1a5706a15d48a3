"""A lock: what a config resolved to, and the files that it reads, as they were; and what has moved since."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.difference import ABSENT, compare, named
from silogen_compiler.emit import digest
from silogen_compiler.load import read_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from silogen_compiler.diagnostics import Span
    from silogen_compiler.difference import Change
    from silogen_compiler.load import Path
    from silogen_compiler.pipeline import Compiled

API_VERSION = "silogen.lock/v1"
CHUNK = 1 << 20
LONGEST = 60  # characters of a value in a finding
HELP = "`silogen compile --lock` writes the lock anew"

Lock = dict[str, Any]
Resolved = dict[str, Any]


def lock_name(config: str) -> str:
    """Return the name of the lock beside a config: run.lock.json for run.yaml."""
    return f"{os.path.splitext(config)[0]}.lock.json"  # noqa: PTH122


def make_lock(resolved: Resolved, schema: str, on_bytes: Callable[[int], None] = lambda _: None) -> Lock:
    """Return the lock of a resolved config; `on_bytes` is told of every piece of a file that is hashed."""
    template = resolved["tokenizer"]["chat_template"]
    return {
        "apiVersion": API_VERSION,
        "schema": schema,
        "digest": resolved["digest"],
        "target": resolved["target"],
        "world_size": resolved["launch"]["world_size"],
        "chat_template": {"name": template["name"], "sha256": _text_hash(template["template"])},
        "files": {name: file_hash(name, on_bytes) for name in files_of(resolved)},
        "not_local": _not_local(resolved),
        "resolved": resolved,
    }


def lock_text(lock: Lock) -> str:
    """Return a lock as it is written: the same bytes for the same lock."""
    return json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_lock(name: str) -> Lock:
    """Return the lock in a file. Raises Refused where there is none, or none that was written whole."""
    if not os.path.exists(name):  # noqa: PTH110
        raise _unreadable(name, f"there is no lock `{name}`")
    try:
        lock = json.loads(read_source(name))
        is_lock = lock["apiVersion"] == API_VERSION and isinstance(lock["files"], dict)
        is_whole = lock["digest"] == digest(lock["resolved"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _unreadable(name, f"`{name}` is no lock") from None
    if not is_lock:
        raise _unreadable(name, f"`{name}` is no lock of this version")
    if not is_whole:
        raise _unreadable(name, f"`{name}` was changed after it was written")
    return dict(lock)


def drift(
    lock: Lock, compiled: Compiled, on_bytes: Callable[[int], None] = lambda _: None
) -> list[Diagnostic]:
    """Return a finding for each value and each file that is not what the lock says."""
    resolved = compiled.resolved
    assert resolved is not None
    now = {name: file_hash(name, on_bytes) for name in files_of(resolved)}
    moved = [_value_drift(change, compiled) for change in compare(lock["resolved"], resolved).changes]
    places = dict([*moved, *_file_drift(lock["files"], now)])
    found = [Diagnostic("SG120", message, span) for message, span in places.items()]
    return [*found[:-1], *(last._replace(help=HELP) for last in found[-1:])]


def files_of(resolved: Resolved) -> list[str]:
    """Return the data files, and the files of the models that are local folders, sorted."""
    folders = [name for name, _ in _models(resolved) if os.path.isdir(name)]  # noqa: PTH112
    return sorted({*data_files(resolved), *(name for folder in folders for name in _files_in(folder))})


def file_hash(name: str, on_bytes: Callable[[int], None]) -> str | None:
    """Return the SHA-256 of a file; None where it is not there. Raises Refused where it cannot be read."""
    if not os.path.exists(name):  # noqa: PTH110
        return None
    hashed = hashlib.sha256()
    try:
        with open(name, "rb") as file:  # noqa: PTH123
            while chunk := file.read(CHUNK):
                hashed.update(chunk)
                on_bytes(len(chunk))
    except OSError as error:
        raise _cannot_read(name, error) from None
    return f"sha256:{hashed.hexdigest()}"


def data_files(resolved: Resolved) -> Iterator[str]:
    """Yield the files of training and validation examples."""
    for side in ("train", "validation"):
        for source in (resolved["data"].get(side) or {}).get("datasets", []):
            yield source["path"]


def _models(resolved: Resolved) -> Iterator[tuple[str, str | None]]:
    """Yield the base model, the tokenizer and the adapter, each with its revision."""
    for section in ("model", "tokenizer"):
        kwargs = resolved[section]["from_pretrained"]
        yield kwargs["pretrained_model_name_or_path"], kwargs.get("revision")
    if adapter := (resolved["peft"] or {}).get("pretrained"):
        yield adapter, None


def _files_in(folder: str) -> list[str]:
    """Return the files right in a folder, but the hidden ones. Raises Refused where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    except OSError as error:
        raise _cannot_read(folder, error) from None
    return [os.path.join(folder, name) for name in names]  # noqa: PTH118


def _not_local(resolved: Resolved) -> list[dict[str, str | None]]:
    """Return the models that are no local folders, by name and revision: their files are not compared."""
    found = {name: revision for name, revision in _models(resolved) if not os.path.isdir(name)}  # noqa: PTH112
    return [{"name": name, "revision": revision} for name, revision in sorted(found.items())]


def _text_hash(text: str | None) -> str | None:
    return None if text is None else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _unreadable(name: str, message: str) -> Refused:
    return Refused(Diagnostic("SG121", message, help=HELP, file=name))


def _cannot_read(name: str, error: OSError) -> Refused:
    return Refused(Diagnostic("SG101", f"cannot read `{name}`: {str(error.strerror).lower()}", file=name))


def _value_drift(change: Change, compiled: Compiled) -> tuple[str, Span | None]:
    """Return what to say about a value, under its name in the config where it has one, and its place."""
    origin = compiled.origins.get(change.path)
    key: Path = origin.key if origin and origin.key else ()
    name, before, after = named(change._replace(path=key or change.path), LONGEST)
    if change.before is ABSENT:
        message = f"`{name}` is {after}, and was not there"
    elif change.after is ABSENT:
        message = f"`{name}` was {before}, and is not there any more"
    else:
        message = f"`{name}` was {before}, is {after}"
    mark = compiled.config.marks.get(key) if compiled.config and key else None
    return message, mark and mark.value


def _file_drift(
    before: Mapping[str, str | None], now: Mapping[str, str | None]
) -> Iterator[tuple[str, Span | None]]:
    for name in sorted({**before, **now}):
        old, new = before.get(name), now.get(name)
        if old and new and old != new:
            yield f"`{name}` has changed since the lock was written", None
        elif old and not new:
            yield f"`{name}` is not there any more", None
        elif new and not old:
            yield f"`{name}` was not there when the lock was written", None
