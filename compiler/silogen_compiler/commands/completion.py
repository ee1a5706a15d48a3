"""`silogen completion`: the script that has a shell complete commands, options and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from silogen_compiler.codes import CODES
from silogen_compiler.schema import Schema, bundle, deref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.shell_completion import ShellComplete

# Each shell with its class, and what is put before a line of click's script: no space after `KEY=`.
SHELLS: dict[str, tuple[type[ShellComplete], str, str]] = {
    "bash": (BashComplete, "    return 0\n}", '    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace\n'),
    "fish": (FishComplete, "", ""),  # leaves the space out by itself
    "zsh": (
        ZshComplete,
        "        compadd -U -V unsorted",
        '        [[ "$completions[1]" == *= ]] && { compadd -S "" -U -V unsorted -a completions; return }\n',
    ),
}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the script that has SHELL complete what `silogen` takes.

    \b
    bash:  silogen completion bash > ~/.local/share/bash-completion/completions/silogen
    zsh:   silogen completion zsh > ~/.zfunc/_silogen, where ~/.zfunc is in fpath before compinit
    fish:  silogen completion fish > ~/.config/fish/completions/silogen.fish
    """  # noqa: D301 - click's mark for a block that keeps its lines
    kind, line, before = SHELLS[shell]
    script = kind(click.Command("silogen"), {}, "silogen", "_SILOGEN_COMPLETE").source()
    click.echo(script.replace(line, before + line) if line else script, nl=False)


def setting_keys(incomplete: str) -> list[str]:
    """Return `KEY=` for every key that `--set` can reach by names alone and that starts with `incomplete`."""
    return [f"{key}=" for key in keys(in_lists=False) if key.startswith(incomplete)]


def explained_names(incomplete: str) -> list[str]:
    """Return the keys and codes that `silogen explain` knows and that start with `incomplete`."""
    names = [*keys(in_lists=True), *CODES]
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def keys(*, in_lists: bool) -> list[str]:
    """Return every key of the config with dots between, sections before what they hold."""
    found: dict[str, None] = {}
    queue = [("", bundle())]
    for section, node in queue:
        for branch in _objects(node, in_lists=in_lists):
            below = {f"{section}.{key}".lstrip("."): spec for key, spec in branch["properties"].items()}
            found |= dict.fromkeys(below)
            queue += below.items()
    return list(found)


def _objects(node: Schema, *, in_lists: bool) -> Iterator[Schema]:
    """Yield the object schemas that a value may be checked against."""
    node = deref(node)
    below = [node["then"]] if "then" in node else [branch["then"] for branch in node.get("allOf", [])]
    below += [node["items"]] if in_lists and isinstance(node.get("items"), dict) else []
    for other in below:
        yield from _objects(other, in_lists=in_lists)
    if "properties" in node:
        yield node
