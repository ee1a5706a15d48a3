"""The fixes of findings, made in the text of the configs, as far as they leave a config what it is."""

from __future__ import annotations

import os.path
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.edit import edit_text
from silogen_compiler.layers.extends import from_disk, printable
from silogen_compiler.pipeline import Compiled, compile_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from silogen_compiler.diagnostics import Diagnostic

MOST_PASSES = 10


class Finding(NamedTuple):
    """A finding with the file that it is about, for which its fix is."""

    file: str
    diagnostic: Diagnostic

    @property
    def is_safe(self) -> bool:
        """Tell whether it has a fix, and that leaves what the config means as it is."""
        fix = self.diagnostic.fix
        return fix is not None and fix.is_safe


class Fixed(NamedTuple):
    """What the fixes come to.

    `texts` maps the name of each changed file to what it held and what it is to hold. `fixed` are the
    findings that are mended and `left` those that are not, `refused` of them because their fix would change
    what a config resolves to, or bring a new error. `compiled` is what each config compiles to now.
    """

    texts: dict[str, tuple[str, str]]
    fixed: list[Finding]
    left: list[Finding]
    refused: list[Finding]
    compiled: list[Compiled]


def fix_configs(configs: Sequence[str], *, unsafe: bool = False, **options: Any) -> Fixed:
    """Fix what can be fixed in the files of the configs, each of its own; nothing is written.

    `unsafe` takes fixes that guess as well. `options` are those of `compile_file`. A config that resolves
    still resolves to the same, also where a file that it extends is fixed for another one.
    """
    project = _Project(configs, options)
    for _ in range(MOST_PASSES):
        todo = project.fixable(unsafe=unsafe)
        if not todo or not project.apply(todo):
            break
    left, refused = list(project.findings()), project.fixable(unsafe=unsafe)
    return Fixed(project.changes(), project.fixed, left, refused, project.compiled)


class _Project:
    """Configs and the texts of their files, with the fixes made so far."""

    def __init__(self, configs: Sequence[str], options: dict[str, Any]) -> None:
        self.configs = configs
        self.options = options
        self.compiled = [compile_file(config, **options) for config in configs]
        self.files = [
            {name: place(name) for name in compiled.sources if is_file(name)} for compiled in self.compiled
        ]
        self.before = {
            at: compiled.sources[name]
            for compiled, files in zip(self.compiled, self.files, strict=True)
            for name, at in files.items()
        }
        self.texts = dict(self.before)
        self.fixed: list[Finding] = []

    def findings(self) -> Iterator[Finding]:
        """Yield the findings, once each, though several configs may have them."""
        seen = set()
        for config, compiled in zip(self.configs, self.compiled, strict=True):
            for found in compiled.diagnostics:
                span, file = found.span, found.span.file if found.span else config
                key = (place(file), found.code, found.message, span and span[1:], repr(found.fix))
                if key not in seen:
                    seen.add(key)
                    yield Finding(file, found)

    def fixable(self, *, unsafe: bool) -> list[Finding]:
        """Return the findings with a fix for a file."""
        fixes = [finding for finding in self.findings() if finding.diagnostic.fix]
        return [f for f in fixes if place(f.file) in self.texts and (unsafe or f.is_safe)]

    def changes(self) -> dict[str, tuple[str, str]]:
        names = {at: name for files in self.files for name, at in files.items()}
        return {
            names[at]: (text, self.texts[at]) for at, text in self.before.items() if text != self.texts[at]
        }

    def apply(self, findings: list[Finding]) -> bool:
        """Make the fixes that can be made, and tell whether there was one."""
        if self.try_all(findings):
            return True
        middle = len(findings) // 2
        return bool(middle) and any([self.apply(findings[:middle]), self.apply(findings[middle:])])

    def try_all(self, findings: list[Finding]) -> bool:
        """Make the fixes, unless one of them goes wrong."""
        texts, done = dict(self.texts), []
        for finding in findings:
            at, fix = place(finding.file), finding.diagnostic.fix
            new = fix and edit_text(finding.file, texts[at], fix.edits)
            if new is not None and new != texts[at]:
                texts[at] = new
                done.append(finding)
        changed = {at for at, text in texts.items() if text != self.texts[at]}
        compiled = [self.again(number, texts, changed) for number in range(len(self.configs))]
        if not done or not _is_right(self.compiled, compiled, done):
            return False
        self.texts, self.compiled, self.fixed = texts, compiled, [*self.fixed, *done]
        return True

    def again(self, number: int, texts: dict[str, str], changed: set[str]) -> Compiled:
        """Compile a config with other texts, if it reads one that has changed."""
        files = self.files[number]
        if changed.isdisjoint(files.values()):
            return self.compiled[number]
        given = {name: texts[at] for name, at in files.items()}

        def read(name: str) -> tuple[str, str]:
            called = printable(name)
            return (called, given[called]) if called in given else from_disk(name)

        return compile_file(self.configs[number], read=read, **self.options)


def place(name: str) -> str:
    """Return what two names of one file have in common."""
    return name if name == "-" else os.path.realpath(name)


def is_file(name: str) -> bool:
    """Tell whether a fix can be made in what `name` names: a file, or standard input."""
    return name == "-" or os.path.isfile(name)  # noqa: PTH113 - a name may be `-`


def _is_right(before: list[Compiled], after: list[Compiled], done: list[Finding]) -> bool:
    """Tell whether the fixes mend what they are for, and nothing else is another than it was."""
    gone = Counter(_names(before)) - Counter(_names(after))
    mended = Counter((f.diagnostic.code, f.diagnostic.message) for f in done)
    pairs = zip(before, after, strict=True)
    return mended <= gone and all(old is new or _is_same(old, new) for old, new in pairs)


def _is_same(before: Compiled, after: Compiled) -> bool:
    """Tell whether a config resolves to the same; one that did not resolve has no new error of its own.

    Rules that had nothing to say yet, as values were wrong or missing, may find more.
    """
    if before.resolved is not None:
        return before.resolved == after.resolved
    return not Counter(_mistakes(after)) - Counter(_mistakes(before))


def _names(all_compiled: list[Compiled]) -> Iterator[tuple[str, str]]:
    for compiled in all_compiled:
        yield from ((d.code, d.message) for d in compiled.diagnostics)


def _mistakes(compiled: Compiled) -> Iterator[tuple[str, str]]:
    """Yield the errors of reading and of the schema."""
    yield from ((d.code, d.message) for d in compiled.diagnostics if d.code < "SG3" and d.severity == "error")
