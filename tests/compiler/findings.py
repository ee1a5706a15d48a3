"""Findings of every shape, which all renderers are tested on."""

from __future__ import annotations

from silogen_compiler.diagnostics import Diagnostic, Edit, Fix, Note, Span

RUN = """\
data_conf:
  path: "data/übung 日本.jsonl"
training_args:
  learning_rte: 2e-5
  hub_token: hf_abcdefgh
  fp16: true
  bf16: true
  max_steps: 5
  # far below
  # far below
  # far below
  # far below
  # far below
  # far below
  # far below
  # far below
  optim: sgd
tracking: {mlflow_server_uri: "https://someone:secret@host/", name: 1}
"""
BASE = "training_args:\n  optim: adamw_torch\n"
SOURCES = {"run.yaml": RUN, "conf,igs/base: 100%.yaml": BASE}
OTHER = "conf,igs/base: 100%.yaml"

FINDINGS = {
    "renamed": Diagnostic(
        "SG201",
        "unknown key `learning_rte` in `training_args`",
        Span("run.yaml", 4, 3, 15),
        "did you mean `learning_rate`?",
        notes=("schema: SilogenTrainingArguments (silogen explain training_args.learning_rate)",),
        fix=Fix((Edit(("training_args", "learning_rte"), key="learning_rate"),), is_safe=False),
    ),
    "beside": Diagnostic(
        "SG303",
        "`bf16` and `fp16` are both true",
        Span("run.yaml", 7, 9, 13),
        "keep one",
        notes=(Note("`fp16` is true", Span("run.yaml", 6, 9, 13)),),
        fix=Fix((Edit(("training_args", "fp16")), Edit(("training_args", "bf16"), value=False))),
    ),
    "two lines between": Diagnostic(
        "SG317",
        "`max_steps` decides",
        Span("run.yaml", 8, 14, 15),
        notes=(Note("a rate", Span("run.yaml", 4, 17, 21)),),
    ),
    "far": Diagnostic(
        "SG333",
        "no pages",
        Span("run.yaml", 17, 10, 13),
        "write `adamw`",
        notes=(
            Note("`fp16` is true", Span("run.yaml", 6, 9, 13)),
            Note("this one was replaced", Span(OTHER, 2, 10, 21)),
        ),
    ),
    "same line": Diagnostic(
        "SG205",
        "a name must be text",
        Span("run.yaml", 18, 68, 69),
        'write "1"',
        notes=(Note("stands in this section", Span("run.yaml", 18, 1, 9)),),
    ),
    "wide": Diagnostic("SG203", "wide characters", Span("run.yaml", 2, 21, 27), "here"),
    "secret": Diagnostic(
        "SG207",
        "`https://someone:secret@host/` is no server",
        Span("run.yaml", 5, 14, 25),
        help="Text such as https://someone:secret@host/ holds a password.",
        notes=("a note about https://someone:secret@host/", Note("https://someone:secret@host/", None)),
        fix=Fix((Edit(("tracking", "uri"), value=["https://someone:secret@host/"]),)),
    ),
    "no width": Diagnostic("SG202", "missing key", Span("run.yaml", 1, 1, 1), "add it"),
    "whole file": Diagnostic("SG101", "cannot read", file=OTHER, label="give a file"),
    "nowhere": Diagnostic("SG704", "packages are missing", help="install them"),
    "hostile": Diagnostic(
        "SG201",
        "unknown key `\x1b[31m\n::warning::50% off\r`",
        Span("a,b:c%\x1b\n.yaml", 1, 1, 2),
        "\x9b2J",
    ),
}
