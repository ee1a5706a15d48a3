"""`silogen diff`: what two configs, or two ways to compile one, resolve to differently."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from silogen_compiler.commands.options import compile_options
from silogen_compiler.commands.report import EXIT_CHECK, EXIT_ERRORS, has_color, report_findings
from silogen_compiler.difference import (
    ABSENT,
    ADDED,
    CHANGED,
    REMOVED,
    Change,
    Difference,
    compare,
    named,
    origin_text,
)
from silogen_compiler.load import dotted
from silogen_compiler.targets import packages_of_targets

if TYPE_CHECKING:
    from silogen_compiler.sides import Side

SIGNS = {CHANGED: ("~", "33"), ADDED: ("+", "32"), REMOVED: ("-", "31")}
LONGEST = 72  # characters of a value that are shown
ONE_LINE = 90  # longer origins stand on two lines


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", required=False)
@compile_options
@click.option("--to-target", type=click.Choice(list(packages_of_targets())), help="Target of B alone.")
@click.option("--to-world-size", type=click.IntRange(min=1), help="Number of processes of B alone.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the difference.",
)
@click.pass_context
def diff(  # noqa: PLR0913 - options of a command
    ctx: click.Context,
    /,
    *,
    first: str,
    second: str | None,
    to_target: str | None,
    to_world_size: int | None,
    format_name: str,
    **options: Any,
) -> None:
    """Compare what A and B resolve to, with the origin of each value that differs.

    A and B are configs, configs of a git revision (HEAD~1:run.yaml), resolved configs, or the output folder
    or a checkpoint of a run. Without B, A is compared with itself: give --to-target or --to-world-size.
    Ends with 0 where they are equal, 3 where they differ, 1 where one does not compile.
    """
    from silogen_compiler.sides import read_sides  # noqa: PLC0415 - start-up time

    to_options = {"target": to_target, "world_size": to_world_size}
    to_options = {name: value for name, value in to_options.items() if value is not None}
    if second is None and not to_options:
        raise click.UsageError("give a second config, --to-target or --to-world-size")
    given = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    sides = read_sides(first, second or first, given, to_options)
    _refuse_broken(sides)
    difference = compare(*(side.resolved or {} for side in sides))
    text = _as_json(difference, sides) if format_name == "json" else _as_text(difference, sides)
    click.echo(text)
    if difference.changes:
        sys.exit(EXIT_CHECK)


def _refuse_broken(sides: tuple[Side, Side]) -> None:
    """End the command with the findings about what does not compile."""
    broken = [side for side in sides if side.resolved is None]
    for side in broken:
        report_findings(side.diagnostics, side.sources)
    if broken:
        sys.exit(EXIT_ERRORS)


def _as_text(difference: Difference, sides: tuple[Side, Side]) -> str:
    blocks = [
        "\n".join(_lines(change, sides) for change in changes)
        for _, changes in groupby(difference.changes, key=lambda change: change.path[0])
    ]
    header = "\n".join(f"{sign} {_title(side)}" for sign, side in zip(("---", "+++"), sides, strict=True))
    return "\n\n".join([*([header] if blocks else []), *blocks, _count(difference)])


def _title(side: Side) -> str:
    from silogen_compiler.sides import compiled_for  # noqa: PLC0415 - start-up time

    made = compiled_for(side.resolved or {})
    number = made.get("world_size", 0)
    processes = [f"{number:,} process{'' if number == 1 else 'es'}"] if number else []
    facts = ", ".join([*([made["target"]] if "target" in made else []), *processes])
    return f"{side.name} ({facts})" if facts else side.name


def _lines(change: Change, sides: tuple[Side, Side]) -> str:
    """Return a change with the origins of both values below it."""
    sign, color = SIGNS[change.kind]
    key, before, after = named(change, LONGEST)
    values = " → ".join(text for text in (before, after) if text)
    origins = _origins(change, sides)
    texts = list(dict.fromkeys(text for text in origins if text))
    between = " → " if sum(map(len, texts)) < ONE_LINE else "\n  → "
    line = f"{_paint(sign, color)} {key}: {values}"
    return f"{line}\n    {_paint(between.join(texts), '2')}" if texts else line


def _origins(change: Change, sides: tuple[Side, Side]) -> list[str]:
    values = (change.before, change.after)
    return [
        "" if value is ABSENT else origin_text(side.origins, change.path)
        for value, side in zip(values, sides, strict=True)
    ]


def _count(difference: Difference) -> str:
    kinds = [change.kind for change in difference.changes]
    parts = [f"{kinds.count(kind):,} {kind}" for kind in SIGNS if kind in kinds]
    return ", ".join([*parts, f"{difference.equal:,} equal"])


def _as_json(difference: Difference, sides: tuple[Side, Side]) -> str:
    changes = [_plain(change, sides) for change in difference.changes]
    content = {"from": sides[0].name, "to": sides[1].name, "changes": changes, "equal": difference.equal}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _plain(change: Change, sides: tuple[Side, Side]) -> dict[str, Any]:
    plain = {"kind": change.kind, "key": dotted(change.path)}
    origins = _origins(change, sides)
    for name, value, origin in zip(("from", "to"), (change.before, change.after), origins, strict=True):
        plain |= {} if value is ABSENT else {name: value, f"{name}_origin": origin}
    return plain


def _paint(text: str, color: str) -> str:
    return f"\033[{color}m{text}\033[0m" if has_color(sys.stdout) else text
