"""The losses of a run, whose data are tokens before it starts, are those of TRL left to itself."""

from __future__ import annotations

import io
import json
from typing import NamedTuple

import peft
import pytest
import trl
from cells import AXES, Cell
from configs import config_of
from datasets import Dataset
from rich.console import Console
from silogen_compiler.pipeline import compile_data
from silogen_runtime.resolved import parse
from silogen_runtime.tokenizer import load_tokenizer
from silogen_runtime.train import train
from tiny import LINES, PAIRS, write_lines
from transformers import AutoModelForCausalLM, set_seed

pytestmark = pytest.mark.xdist_group("matrix")  # which share what trains the cells

# Ends with the end token: TRL learns whatever follows an answer, and silogen stops there.
TEMPLATE = (
    "{{- bos_token }}{%- for m in messages %}{{ '<' + m['role'] + '>\n' }}"
    "{{ m['content'] + eos_token }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<assistant>\n' }}{% endif %}"
)
OWN = {"name": "own", "template": TEMPLATE, "added_tokens": [], "assistant_end": None}
ONE_ANSWER = [line for line in LINES if len(line["messages"]) < 4]


class Kind(NamedTuple):
    """A way to give TRL the data: which part is learned, by which template."""

    method: str
    learned: str
    template: str


EVERYTHING = [Kind("sft", "everything", template) for template in AXES["template"]]
ANSWERS = [Kind("sft", "answers", "own"), Kind("dpo", "answers", "own")]


def pytest_generate_tests(metafunc):
    wide = metafunc.config.getoption("--wide")
    kinds = [*EVERYTHING, *ANSWERS] if wide else ANSWERS
    metafunc.parametrize("kind", kinds, ids=":".join)
    metafunc.parametrize("adapter", AXES["peft"] if wide else ("DORA",))


def rows_of(kind):
    """Return the data as TRL takes them, and the lines of the same for silogen."""
    if kind.method == "dpo":
        return [{key.removesuffix("_messages"): row[key] for key in row} for row in PAIRS], PAIRS
    if kind.learned == "everything":
        return LINES, LINES
    messages = [line["messages"] for line in ONE_ANSWER]
    return [{"prompt": said[:-1], "completion": said[-1:]} for said in messages], ONE_ANSWER


def resolved_for(kind, adapter, shared, folder):
    template = kind.template if kind.learned == "everything" else "keep-original"
    cell = Cell(kind.method, adapter, "none", template, "single", "known")
    data = {kind.method: write_lines(folder / "data.jsonl", rows_of(kind)[1])}
    config = config_of(cell, shared | data, folder / "out")
    if kind.method == "sft":
        config["sft_args"]["train_on_completions_only"] = kind.learned == "answers"
    resolved = compile_data(config, environment={}).resolved
    if kind.template == "own":
        resolved["tokenizer"]["chat_template"] = OWN
    return resolved


def plain_trl(resolved, rows, folder):
    """Return the losses of a run written by hand, which tokenizes by itself."""
    section = resolved["trainer"]
    args = {**section["args"], "output_dir": str(folder / "plain")}
    if resolved["method"] == "sft":
        args |= {"dataset_kwargs": None, "max_length": None}
    adapter = resolved["peft"] and getattr(peft, resolved["peft"]["class"])(**resolved["peft"]["kwargs"])
    set_seed(args["seed"])
    trainer = getattr(trl, section["class"])(
        model=AutoModelForCausalLM.from_pretrained(**resolved["model"]["from_pretrained"]),
        args=getattr(trl, section["args_class"])(**args),
        processing_class=load_tokenizer(parse(resolved)).tokenizer,
        train_dataset=Dataset.from_list(json.loads(json.dumps(rows))),
        peft_config=adapter,
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_the_losses_are_those_of_plain_trl(kind, adapter, shared, tmp_path):
    resolved = resolved_for(kind, adapter, shared, tmp_path)
    outcome = train(resolved, console=Console(file=io.StringIO()))
    assert outcome.losses == pytest.approx(plain_trl(resolved, rows_of(kind)[0], tmp_path), abs=1e-5)
