"""The same findings in every form."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from urllib.parse import unquote

import jsonschema
import pytest
from findings import FINDINGS, OTHER, RUN, SOURCES
from paths import CASES
from silogen_compiler.commands.report import first, has_color
from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.render import RENDERERS, renderer
from silogen_compiler.render.text import render_text

ALL = list(FINDINGS.values())
SECRETS = ("hf_abcdefgh", "someone:secret")


def shown(name, **kwargs):
    return render_text([FINDINGS[name]], SOURCES, **kwargs)


@pytest.mark.parametrize("form", RENDERERS)
def test_no_form_shows_a_secret_or_a_control_character(form):
    text = renderer(form)(ALL, SOURCES)
    assert [secret for secret in SECRETS if secret in text] == []
    assert [char for char in text if not char.isprintable() and char != "\n"] == []


@pytest.mark.parametrize("form", RENDERERS)
def test_the_same_findings_are_the_same_text(form):
    assert renderer(form)(ALL, SOURCES) == renderer(form)(ALL, SOURCES)


def test_text_underlines_the_place():
    assert shown("renamed") == (
        "error[SG201]: unknown key `learning_rte` in `training_args`\n"
        " --> run.yaml:4:3\n"
        "  |\n"
        "4 |   learning_rte: 2e-5\n"
        "  |   ^^^^^^^^^^^^ did you mean `learning_rate`?\n"
        "  = fix: rename `learning_rte` to `learning_rate` (silogen fix --unsafe)\n"
        "  = schema: SilogenTrainingArguments (silogen explain training_args.learning_rate)\n"
        "\n"
    )


def test_text_shows_a_place_close_by_in_the_same_snippet():
    assert shown("beside").splitlines()[1:] == [
        " --> run.yaml:7:9",
        "  |",
        "6 |   fp16: true",
        "  |         ---- `fp16` is true",
        "7 |   bf16: true",
        "  |         ^^^^ keep one",
        "  = fix: move `fp16` to `training_args.bf16` (silogen fix)",
        "",
    ]


def test_text_shows_dots_for_lines_between():
    assert shown("two lines between").splitlines()[3:] == [
        "4 |   learning_rte: 2e-5",
        "  |                 ---- a rate",
        "...",
        "8 |   max_steps: 5",
        "  |              ^",
        "",
    ]


def test_text_shows_a_single_line_between_as_it_is():
    finding = FINDINGS["beside"]
    span = finding.span._replace(line=8)
    lines = render_text([finding._replace(span=span)], SOURCES).splitlines()
    assert [line[:3] for line in lines[3:8]] == ["6 |", "  |", "7 |", "8 |", "  |"]


def test_text_shows_places_elsewhere_each_in_a_snippet():
    assert shown("far").splitlines()[2:] == [
        "   |",
        "17 |   optim: sgd",
        "   |          ^^^ write `adamw`",
        "  ::: run.yaml:6:9",
        "   |",
        " 6 |   fp16: true",
        "   |         ---- `fp16` is true",
        f"  ::: {OTHER}:2:10",
        "   |",
        " 2 |   optim: adamw_torch",
        "   |          ----------- this one was replaced",
        "",
    ]


def test_text_underlines_two_places_of_one_line():
    below = shown("same line").splitlines()[4:6]
    assert [line.index(sign) for line, sign in zip(below, "^-", strict=True)] == [5 + 67, 5]


def test_text_counts_wide_characters_twice():
    row, pointer = shown("wide").splitlines()[3:5]
    assert row.endswith('"data/übung 日本.jsonl"')
    before, marked = 'path: "data/übung ', "日本.jso"
    assert pointer == f"  |   {' ' * len(before)}{'^' * (len(marked) + 2)} here"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_text_wraps_notes_under_their_first_word(width):
    text = "Allowed: " + ", ".join(f"a_rather_long_name_{number}" for number in range(30))
    first_line, *others = render_text([Diagnostic("SG204", "no", help=text)], {}, width=width).splitlines()[
        1:-1
    ]
    assert first_line.startswith("  = help: Allowed:")
    assert all(re.match(r"          \S", line) for line in others)
    assert max(map(len, [first_line, *others])) <= width
    assert len(first_line) > width - 30


def test_text_keeps_a_command_whole():
    note = "schema: A_name_of_a_section (silogen explain a.rather.long.key.that.has.many.parts)"
    lines = render_text([Diagnostic("SG204", "no", notes=(note,))], {}, width=60).splitlines()
    assert lines[-2].strip() == "(silogen explain a.rather.long.key.that.has.many.parts)"


@pytest.mark.parametrize("width", [60, 100])
def test_text_shows_a_window_of_a_long_line(width):
    row = "key: [" + ", ".join(f"name{number}" for number in range(100)) + "]"
    start = row.index("name50")
    span = FINDINGS["wide"].span._replace(line=1, column=start + 1, end=start + 7)
    lines = render_text(
        [Diagnostic("SG203", "no", span, "here")], {"run.yaml": row}, width=width
    ).splitlines()
    at = lines[4].index("^")
    assert lines[3][at : at + 6] == "name50"
    assert width - 10 <= len(lines[3]) <= width + len("1 | ")


def test_colour_changes_nothing_else():
    colored = render_text(ALL, SOURCES, color=True)
    assert colored != render_text(ALL, SOURCES)
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == render_text(ALL, SOURCES)


def test_json_names_every_part():
    found = dict(zip(FINDINGS, json.loads(renderer("json")(ALL, SOURCES)), strict=True))
    assert {tuple(row) for row in found.values()} == {
        (
            "code",
            "severity",
            "message",
            "file",
            "line",
            "column",
            "end_column",
            "label",
            "help",
            "notes",
            "fix",
        )
    }
    place = {"file": "run.yaml", "line": 7, "column": 9, "end_column": 13}
    assert place.items() <= found["beside"].items()
    assert found["beside"]["severity"] == "error"
    assert found["beside"]["notes"] == [{"text": "`fp16` is true", **place, "line": 6}]
    assert found["whole file"]["file"] == OTHER
    assert found["nowhere"]["file"] is found["nowhere"]["line"] is None


def test_json_holds_the_edits_of_a_fix():
    fixes = [json.loads(renderer("json")([FINDINGS[name]], {}))[0]["fix"] for name in ("renamed", "beside")]
    assert fixes[0] == {
        "safety": "unsafe",
        "edits": [{"path": ["training_args", "learning_rte"], "key": "learning_rate"}],
    }
    assert fixes[1] == {
        "safety": "safe",
        "edits": [
            {"path": ["training_args", "fp16"], "remove": True},
            {"path": ["training_args", "bf16"], "value": False},
        ],
    }


def commands():
    """Return GitHub's commands as the runner reads them: the kind, the properties and the text."""
    decode = unquote  # the runner replaces the same signs; none of the others occur
    for line in renderer("github")(ALL, SOURCES).splitlines():
        kind, properties, text = re.fullmatch(r"::(\w+) (.*?)::(.*)", line).groups()
        yield (
            kind,
            {k: decode(v) for k, _, v in (p.partition("=") for p in properties.split(","))},
            decode(text),
        )


def test_github_gets_one_command_a_finding():
    found = dict(zip(FINDINGS, commands(), strict=True))
    place = {"file": "run.yaml", "line": "4", "endLine": "4", "col": "3", "endColumn": "15", "title": "SG201"}
    assert found["renamed"][:2] == ("error", place)
    assert found["renamed"][2].startswith(
        "unknown key `learning_rte` in `training_args`\ndid you mean `learning_rate`?\nschema: "
    )
    assert found["two lines between"][0] == "warning"
    assert found["beside"][2].endswith("keep one\n`fp16` is true (run.yaml:6:9)")
    assert found["whole file"][1] == {"file": OTHER, "title": "SG101"}
    assert found["nowhere"][1] == {"title": "SG704"}


def test_github_commands_cannot_be_forged():
    lines = renderer("github")([FINDINGS["hostile"]], {}).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("::error file=a%2Cb%3Ac%25\N{REPLACEMENT CHARACTER} .yaml,line=1,")
    assert "50%25 off" in lines[0]


# What the SARIF 2.1.0 specification requires of the parts that are written.
TEXT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
    "additionalProperties": False,
}
POSITION = {"type": "integer", "minimum": 1}


def closed(required, **properties):
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


ARTIFACT = closed(
    "uri",
    uri={"type": "string", "pattern": r"^[A-Za-z0-9._~:/?#@!$&'()*+;=%-]+$"},
    uriBaseId={"type": "string"},
)
REGION = closed(
    "startLine startColumn endColumn",
    startLine=POSITION,
    startColumn=POSITION,
    endLine=POSITION,
    endColumn=POSITION,
)
PLACE = closed("artifactLocation region", artifactLocation=ARTIFACT, region=REGION)
REPLACEMENT = closed("deletedRegion", deletedRegion=REGION, insertedContent=TEXT)
CHANGE = closed(
    "artifactLocation replacements",
    artifactLocation=ARTIFACT,
    replacements={"type": "array", "minItems": 1, "items": REPLACEMENT},
)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
RULE = closed(
    "id name shortDescription fullDescription help defaultConfiguration",
    id={"type": "string"},
    name={"type": "string", "pattern": "^[A-Z][A-Za-z0-9]*$"},
    shortDescription=TEXT,
    fullDescription=TEXT,
    help=TEXT,
    defaultConfiguration=closed("level", level=LEVEL),
)
RESULT = closed(
    "ruleId ruleIndex level message",
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=TEXT,
    locations={"type": "array", "items": closed("physicalLocation", physicalLocation=PLACE)},
    relatedLocations={
        "type": "array",
        "uniqueItems": True,
        "items": closed("", id={"type": "integer", "minimum": 0}, physicalLocation=PLACE, message=TEXT),
    },
    fixes={
        "type": "array",
        "items": closed(
            "artifactChanges",
            description=TEXT,
            artifactChanges={"type": "array", "minItems": 1, "items": CHANGE},
        ),
    },
)
DRIVER = closed(
    "name",
    name={"const": "silogen"},
    version={"type": "string"},
    rules={"type": "array", "uniqueItems": True, "items": RULE},
)
RUNS = closed(
    "tool results",
    tool=closed("driver", driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    originalUriBaseIds={"type": "object", "additionalProperties": closed("", description=TEXT)},
    results={"type": "array", "items": RESULT},
)
LOG = closed(
    "version runs",
    **{"$schema": {"type": "string", "format": "uri"}},
    version={"const": "2.1.0"},
    runs={"type": "array", "items": RUNS},
)


def sarif(findings):
    log = json.loads(renderer("sarif")(findings, SOURCES))
    jsonschema.Draft202012Validator(LOG).validate(log)
    (run,) = log["runs"]
    return run


def test_sarif_has_the_structure_of_its_standard():
    run = sarif(ALL)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted({finding.code for finding in ALL})
    for finding, result in zip(ALL, run["results"], strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.code
        assert result["level"] == finding.severity
    assert rules[0]["defaultConfiguration"] == {"level": "error"}


@pytest.mark.parametrize("name", ["wide", "far", "no width"])
def test_sarif_places_are_what_the_source_says(name):
    finding = FINDINGS[name]
    (result,) = sarif([finding])["results"]
    (location,) = result["locations"]
    region = location["physicalLocation"]["region"]
    row = RUN.split("\n")[region["startLine"] - 1]
    marked = row[region["startColumn"] - 1 : region["endColumn"] - 1]
    assert marked == {"wide": "日本.jso", "far": "sgd", "no width": ""}[name]


def test_sarif_names_files_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [str(tmp_path / "a b.yaml"), "c/d.yaml", "../out side.yaml"]
    results = sarif([Diagnostic("SG101", "no", file=name) for name in names])["results"]
    artifacts = [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in results]
    assert artifacts[:2] == [{"uri": uri, "uriBaseId": "%SRCROOT%"} for uri in ("a%20b.yaml", "c/d.yaml")]
    assert artifacts[2]["uri"].startswith("file:///")
    assert artifacts[2]["uri"].endswith("/out%20side.yaml")


def test_sarif_holds_second_places_and_exact_fixes():
    run = sarif([FINDINGS["far"], FINDINGS["renamed"], FINDINGS["beside"]])
    far, renamed, beside = run["results"]
    assert [place["message"]["text"] for place in far["relatedLocations"]] == [
        "`fp16` is true",
        "this one was replaced",
    ]
    (change,) = renamed["fixes"][0]["artifactChanges"]
    (replacement,) = change["replacements"]
    region = replacement["deletedRegion"]
    line = RUN.split("\n")[region["startLine"] - 1]
    mended = (
        line[: region["startColumn"] - 1]
        + replacement["insertedContent"]["text"]
        + line[region["endColumn"] - 1 :]
    )
    assert mended == "  learning_rate: 2e-5"
    assert "fixes" not in beside


@pytest.mark.parametrize(("form", "empty"), [("json", []), ("github", ""), ("text", "")])
def test_without_findings(form, empty):
    text = renderer(form)([], {})
    assert (json.loads(text) if form == "json" else text) == empty


def test_sarif_without_findings_is_a_log_without_results():
    assert sarif([])["results"] == []


def test_a_limit_cuts_warnings_first_and_keeps_the_order():
    errors = [d for d in ALL if d.severity == "error"]
    warnings = [d for d in ALL if d.severity == "warning"]
    assert warnings
    assert first([*warnings, *errors], len(errors)) == errors
    assert first([*warnings, *errors], len(errors) + 1) == [warnings[0], *errors]
    assert first(errors, 2) == errors[:2]
    assert first(ALL, 0) == ALL


def silogen(*args, cwd=CASES, environment=()):
    code = "from silogen_compiler.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, args)]
    env = {**os.environ, **dict(environment)}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)


MISTAKES, GOOD = "invalid/many-mistakes-at-once.yaml", "valid/lora.yaml"


def test_the_limit_says_how_many_more_there_are():
    result = silogen("check", "--error-limit", "2", MISTAKES)
    assert result.stderr.count("error[") == 2
    assert "3 more findings; --error-limit 0 shows all\n5 errors\n" in result.stderr
    assert silogen("check", "--error-limit", "0", MISTAKES).stderr.count("error[") == 5


@pytest.mark.parametrize("form", ["json", "sarif"])
@pytest.mark.parametrize(("name", "code"), [(MISTAKES, 1), (GOOD, 0)])
def test_documents_are_the_output_of_check(form, name, code):
    result = silogen("check", "--message-format", form, "--error-limit", "1", name)
    assert result.returncode == code
    found = json.loads(result.stdout)
    assert len(found if form == "json" else found["runs"][0]["results"]) == (5 if code else 0)
    assert result.stderr.startswith("1 config checked: ")


def test_documents_of_compile_are_beside_the_resolved_config():
    result = silogen("compile", "--message-format", "json", "--format", "json", "valid/awkward-batch.yaml")
    assert json.loads(result.stdout)["apiVersion"] == "silogen.resolved/v1"
    assert [finding["code"] for finding in json.loads(result.stderr)] == ["SG302"]


@pytest.mark.parametrize(
    ("environment", "is_colored"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"CLICOLOR_FORCE": "0"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
    ],
)
def test_colour_without_a_terminal(environment, is_colored):
    unset = dict.fromkeys(["NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"], "")
    result = silogen("check", MISTAKES, environment={**unset, **environment})
    assert ("\x1b[1;31merror" in result.stderr) == is_colored


@pytest.mark.parametrize(
    ("environment", "is_colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_on_a_terminal(environment, is_colored, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        assert has_color(terminal) == is_colored
    os.close(master)
