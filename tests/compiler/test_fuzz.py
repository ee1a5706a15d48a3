"""Damaged inputs end in findings with places, soon, and never in a traceback.

`make fuzz` tries 50,000 of them. A failure names its seed, and leaves the input under build/fuzz;
`SILOGEN_FUZZ_SEED=123 pytest tests/compiler/test_fuzz.py` tries that one alone.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import shlex
import signal
from contextlib import contextmanager

import pytest
from cases import CASES, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import Input, make, mutate, write
from silogen_compiler.codes import CODES
from silogen_compiler.diagnostics import Note
from silogen_compiler.emit import emit_json, emit_yaml
from silogen_compiler.load import load_text
from silogen_compiler.pipeline import compile_file
from silogen_compiler.render import RENDERERS, renderer
from strategies import configs

COUNT = int(os.environ.get("SILOGEN_FUZZ", "2000"))
FIRST = int(os.environ.get("SILOGEN_FUZZ_FIRST", "0"))
ONE = os.environ.get("SILOGEN_FUZZ_SEED")
SEEDS = [int(ONE)] if ONE else range(FIRST, FIRST + COUNT)

SECONDS = 2  # of processor time an input
STUCK = 600 + COUNT // 10  # seconds after which a process that no signal reaches tells where it is, and ends
FORMS = {name: renderer(name) for name in RENDERERS}
FINDING = re.compile(r"^(?:error|warning)\[SG\d{3}\]: ", re.MULTILINE)


@pytest.fixture(scope="module", autouse=True)
def _no_hang():
    faulthandler.dump_traceback_later(STUCK, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def test_damaged_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures = {}
    for seed in SEEDS:
        given_input = make(seed)
        try:
            check(given_input)
        except Exception as error:
            failures[seed] = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            save(given_input, seed)
            if len(failures) == 20 or ONE:
                raise
    assert failures == {}, "inputs are in build/fuzz; SILOGEN_FUZZ_SEED=… runs one of them again"


VALID = (CASES / "valid" / "json.json").read_bytes()
# Inputs that once failed, by what they did.
FOUND = {
    "line breaks in a setting": Input({"run.yaml": b"{}"}, ("run_conf.model=[a,\nb", "method=5")),
    "a setting that is no YAML": Input({"run.yaml": b"{}"}, ("run_conf.model_args=[",)),
    "extends a name with a null byte": Input({"run.yaml": b'extends: ["\\0"]'}),
    "control character behind others of several bytes": Input({"run.yaml": "é: é\x0e".encode()}),
    "whole number beyond all floats": Input({"run.toml": b"training_args.learning_rate = 1" + b"0" * 400}),
    "hexadecimal number beyond all floats": Input(
        {"run.yaml": b"training_args: {max_steps: 0x" + b"f" * 5000 + b"}"}
    ),
    "hexadecimal number too long to print": Input(
        {"run.toml": b"training_args.max_steps = 0x" + b"f" * 5000}
    ),
    "learning rate that no float holds": Input(
        {"run.json": VALID}, (f"training_args.learning_rate={2**53 + 1}",)
    ),
    "control characters in a file's name": Input({"\x1b[31m\n.yaml": b"[]"}),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_before(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(FOUND[name])


@given(configs(), st.sampled_from(["run.yaml", "run.json", "run.toml"]), st.randoms(use_true_random=False))
@settings(
    max_examples=max(COUNT // 20, 1),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.skipif(ONE is not None, reason="one input alone")
def test_damaged_configs_of_every_kind(tmp_path_factory, config, name, chance):
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        check(Input({name: write(mutate(chance, config), name)}))


def check(given_input):
    """Compile an input and see to what a person and another program would get."""
    for name, raw in given_input.files.items():
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(raw)
    with at_most(SECONDS):
        compiled = compile_file(*given_input.files, **_options(given_input))
        rendered = {name: form(compiled.diagnostics, compiled.sources) for name, form in FORMS.items()}
    for finding in compiled.diagnostics:
        check_finding(finding, compiled.sources, given_input)
    assert len(FINDING.findall(rendered["text"])) == len(compiled.diagnostics)
    assert all(text.replace("\n", "").isprintable() for text in rendered.values())
    has_error = any(CODES[d.code].severity == "error" for d in compiled.diagnostics)
    assert (compiled.resolved is None) == has_error
    if compiled.resolved is not None:
        for name, emit in (("a.yaml", emit_yaml), ("a.json", emit_json)):
            assert load_text(name, emit(compiled.resolved, compiled.origins)).data == compiled.resolved


def check_finding(finding, sources, given_input):
    assert finding.code in CODES
    assert finding.message
    assert finding.span or finding.file, f"{finding.code} without a place: {finding.message}"
    notes = [note.span for note in finding.notes if isinstance(note, Note)]
    for span in [finding.span, *notes]:
        if span is not None:
            check_span(span, sources, given_input)


def check_span(span, sources, given_input):
    """A place is inside its file, or right behind the end of a line."""
    raw = given_input.files.get(span.file, b"").decode("utf-8", "replace").removeprefix("\ufeff")
    lines = sources.get(span.file, raw).split("\n")
    assert span.file in {*sources, *given_input.files}, f"unknown file {span}"
    assert 1 <= span.line <= len(lines), f"line of {span}, of {len(lines)} lines"
    width = len(lines[span.line - 1])
    assert 1 <= span.column <= width + 1, f"column of {span}, of {width} characters"
    assert span.column <= span.end <= max(width, span.column) + 1, f"end of {span} at {span.end} of {width}"


@contextmanager
def at_most(seconds):
    """Raise TimeoutError in code that takes more processor time."""
    before = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_slow(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def _options(given_input):
    return {key: value for key, value in given_input._asdict().items() if key != "files"}


def save(given_input, seed):
    """Write an input to build/fuzz/SEED, with the command that compiles it."""
    folder = ROOT / "build" / "fuzz" / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in given_input.files.items():
        (folder / name).write_bytes(raw)
    options = _options(given_input)
    sets = [part for text in options["settings"] for part in ("--set", text)]
    sets += [part for text in options["setting_files"] for part in ("--set-file", text)]
    target = ["--target", options["target"]] if options["target"] else []
    words = [
        "silogen",
        "compile",
        *given_input.files,
        "--world-size",
        str(options["world_size"]),
        *target,
        *sets,
    ]
    (folder / "command.txt").write_text(f"{json.dumps(options['environment'])}\n{shlex.join(words)}\n")
