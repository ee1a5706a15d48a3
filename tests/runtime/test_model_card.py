"""The README.md of a trained model: what the hub reads of it, what people read, and what they run."""

from __future__ import annotations

import contextlib
import io
import json
import re
from types import SimpleNamespace as Namespace

from huggingface_hub import ModelCard
from silogen_runtime.merge import merge
from silogen_runtime.model_card import front_matter, sources
from tiny import LINES


def card(folder) -> ModelCard:
    return ModelCard.load(folder / "README.md")


def facts(folder) -> dict[str, str]:
    return dict(re.findall(r"^- \*\*(.+?)\*\*: (.+)$", card(folder).text, re.MULTILINE))


def run_snippet(folder, monkeypatch) -> str:
    """Run the code of a card in its folder, as a person would paste it."""
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", card(folder).text, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        question = LINES[0]["messages"][0]["content"]
        exec(code.replace("Hello!", question).replace("max_new_tokens=100", "max_new_tokens=24"), {})
    return printed.getvalue()


def test_the_hub_reads_what_it_is(grown_run):
    data = card(grown_run).data
    assert data.library_name == "peft"
    assert data.pipeline_tag == "text-generation"
    assert data.tags == ["silogen", "sft", "trl", "lora"]
    assert data.base_model is None  # a folder here, which the hub would refuse
    assert data.license is None


def test_a_base_from_the_hub_is_named():
    assert "base_model: org/base\n" in front_matter("org/base", "dpo", adapter="") + "\n"
    assert "base_model" not in front_matter("./models/base", "sft", adapter="")


def test_people_read_what_was_trained(grown_run, bos_model):
    told = facts(grown_run)
    resolved = json.loads((grown_run.parent / "resolved.json").read_text())
    assert told["base model"] == f"`{bos_model}`"
    assert told["config"] == f"`{resolved['digest']}`"
    assert told["learning_rate"] == "`0.01`"
    assert told["training data"].startswith("12 examples, ")
    assert told["validation data"].endswith("; split off the training data")
    assert "r `8`, lora_alpha `16`" in told["adapter"]
    assert told["steps"].startswith("60, of 4 examples each (1 process x 4 per device x 1 accumulated)")
    first, last = map(float, told["loss"].split(" → "))
    assert last < 0.1 < first
    assert re.fullmatch(r"[\d,]+ of [\d,]+ trained \(.*%\)", told["parameters"])
    assert "peft 0." in told["versions"]


def test_it_is_ours_and_no_template_to_fill_in(grown_run, quantized_run):
    for folder in (grown_run, quantized_run):
        assert "More Information Needed" not in card(folder).text


def test_there_is_no_card_of_trl(resolve, run, tmp_path):
    run(resolve(args={"save_strategy": "steps", "save_steps": 1, "max_steps": 1}))
    assert (tmp_path / "out" / "checkpoint-1").exists()
    assert not (tmp_path / "out" / "README.md").exists()


def test_data_of_no_weight_is_not_among_what_was_trained_on():
    mix = [Namespace(path=f"{weight}.jsonl", sampling_weight=weight) for weight in (2.0, 0.0)]
    assert sources(Namespace(datasets=mix)) == "`2.0.jsonl` (weight 2)"


def test_its_code_asks_the_adapter(grown_run, monkeypatch):
    assert run_snippet(grown_run, monkeypatch) == "The capital of Finland is Helsinki.\n"


def test_its_code_loads_a_quantized_base(quantized_run, monkeypatch):
    assert 'bnb_4bit_quant_type="nf4"' in card(quantized_run).text
    assert run_snippet(quantized_run, monkeypatch)


def test_a_merged_model_has_its_own(grown_run, tmp_path, monkeypatch):
    merge(grown_run, tmp_path / "merged")
    data = card(tmp_path / "merged").data
    assert (data.library_name, data.tags) == ("transformers", ["silogen", "sft", "trl"])
    assert run_snippet(tmp_path / "merged", monkeypatch) == "The capital of Finland is Helsinki.\n"


def test_the_same_run_writes_the_same_card(resolve, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN_HERE", "hf_secret")
    resolved = resolve(args={"max_steps": 3})
    resolved["model"]["from_pretrained"]["token"] = "${env:HF_TOKEN_HERE}"
    first, second = (card(run(resolved)[0].final_checkpoint).content for _ in range(2))
    assert first == second
    assert "hf_secret" not in first
    assert ModelCard(first).data.library_name == "transformers"
    assert run_snippet(tmp_path / "out" / "checkpoint-final", monkeypatch)
