"""Adapters for vLLM: what of them is left out, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from silogen_compiler.diagnostics import Refused
from silogen_runtime.adapter_export import LORA_WEIGHT, WEIGHTS, export_adapter
from silogen_runtime.commands.export_adapter import export_adapter_command
from trained import adapter_logits, make_adapter

EMBEDDINGS = "base_model.model.model.embed_tokens.base_layer.weight"
PEFT_SAYS = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")

UNSERVED = {
    "use_dora": {"use_dora": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "bias: all": {"bias": "all"},
    "init_lora_weights: pissa": {"init_lora_weights": "pissa"},
    "trainable_tokens_delta": {"trainable_token_indices": [65]},
}


def test_a_run_saves_its_adapter_without_the_base(quantized_run, tmp_path):
    weights = load_file(quantized_run / WEIGHTS)
    assert [name for name in weights if not LORA_WEIGHT.fullmatch(name)] == []
    assert any("lora_embedding_A" in name for name in weights)
    assert export_adapter(quantized_run, tmp_path / "out") == []


def test_new_tokens_are_saved_once(grown_run):
    whole = sorted(name for name in load_file(grown_run / WEIGHTS) if not LORA_WEIGHT.fullmatch(name))
    assert whole == ["base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight"]


def test_weights_of_the_base_are_left_out_of_a_checkpoint(quantized_run, tmp_path, byte_level_model):
    checkpoint = quantized_run.parent / "checkpoint-4"
    result = CliRunner().invoke(export_adapter_command, [str(checkpoint), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"left out {EMBEDDINGS}, which is the base model's own\n" in result.stderr
    kept, before = load_file(tmp_path / "out" / WEIGHTS), load_file(checkpoint / WEIGHTS)
    assert before.keys() - kept.keys() == {EMBEDDINGS}
    assert not (tmp_path / "out" / "optimizer.pt").exists()
    assert (tmp_path / "out" / "tokenizer.json").exists()
    exported = adapter_logits(byte_level_model, tmp_path / "out")
    assert torch.equal(exported, adapter_logits(byte_level_model, checkpoint))


def test_the_working_directory_is_filled_where_it_is_empty(quantized_run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export_adapter(quantized_run, Path())
    assert (tmp_path / "here" / WEIGHTS).exists()


def test_weights_that_are_not_as_in_the_base_are_not_left_out(quantized_run, tmp_path):
    checkpoint = quantized_run.parent / "checkpoint-4"
    changed = tmp_path / "changed"
    export_adapter(checkpoint, changed)
    weights = load_file(checkpoint / WEIGHTS)
    weights[EMBEDDINGS][7] += 1
    save_file(weights, changed / WEIGHTS)
    with pytest.raises(Refused, match=f"SG756: `{EMBEDDINGS}`, which is saved with the adapter, is not as"):
        export_adapter(changed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@PEFT_SAYS
@pytest.mark.parametrize("what", UNSERVED)
def test_what_vllm_does_not_serve_is_refused(what, tmp_path, byte_level_model):
    adapter = make_adapter(tmp_path / "adapter", byte_level_model, "LORA", **UNSERVED[what])
    with pytest.raises(Refused, match=f"SG756: .*{what}"):
        export_adapter(adapter, tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "kwargs", "remedy"),
    [("LOHA", {}, "silogen merge"), ("PROMPT_TUNING", {"num_virtual_tokens": 4}, "silogen generate")],
)
def test_other_types_are_refused(tmp_path, byte_level_model, kind, kwargs, remedy):
    adapter = make_adapter(tmp_path / "adapter", byte_level_model, kind, **kwargs)
    with pytest.raises(Refused, match=rf"SG756: .*{kind}; of all types it takes LORA only") as found:
        export_adapter(adapter, tmp_path / "out")
    assert f"`{remedy}`" in found.value.diagnostics[0].help


def test_every_reason_is_told_at_once(tmp_path, byte_level_model):
    kwargs = {"use_dora": True, "modules_to_save": ["lm_head"]}
    adapter = make_adapter(tmp_path / "adapter", byte_level_model, "LORA", **kwargs)
    with pytest.raises(Refused) as error:
        export_adapter(adapter, tmp_path / "out")
    assert [finding.code for finding in error.value.diagnostics] == ["SG756", "SG756"]
