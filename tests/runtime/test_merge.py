"""A merged model is the adapter's model, or there is none."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import peft
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from click.testing import CliRunner
from silogen_compiler.diagnostics import Refused
from silogen_runtime import cli
from silogen_runtime.commands.merge import merge_command
from silogen_runtime.merge import merge
from test_adapters import KWARGS, UNTRAINABLE, case
from tiny import byte_level_tokenizer, save_model
from trained import adapter_logits, base_logits, edit_json, logits, make_adapter, refused
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

UNMERGEABLE = {
    "BEFT": "peft can't merge this adapter of type BEFT: Base layer has no bias",
    "CARTRIDGE": "an adapter of type CARTRIDGE puts learned vectors before the text",
    "LILY": "peft can't merge this adapter of type LILY: This method is not supported",
    "PREFIX_TUNING": "an adapter of type PREFIX_TUNING puts learned vectors before the text",
    "PROMPT_TUNING": "an adapter of type PROMPT_TUNING puts learned vectors before the text",
    "P_TUNING": "an adapter of type P_TUNING puts learned vectors before the text",
    "SHADOW": "peft can't merge this adapter of type SHADOW: ShadowPEFT cannot be merged",
}
VARIANTS = {
    "dora": {"use_dora": True},
    "rank-stabilized": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "whole modules": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "tokens": {"trainable_token_indices": [65, 66]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
}
PEFT_SAYS = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")


def check_merged(base, adapter, out):
    before, alone = base_logits(base), adapter_logits(base, adapter)
    assert not torch.allclose(before, alone, atol=0.01)
    merge(adapter, out)
    assert not (out / "adapter_config.json").exists()
    torch.testing.assert_close(base_logits(out), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("peft_type", [case(name) for name in KWARGS if name not in UNTRAINABLE])
def test_every_type_of_adapter_is_merged_or_refused(peft_type, tmp_path, byte_level_model):
    adapter = make_adapter(tmp_path / "adapter", byte_level_model, peft_type, **KWARGS[peft_type])
    if peft_type not in UNMERGEABLE:
        check_merged(byte_level_model, adapter, tmp_path / "merged")
        return
    with pytest.raises(Refused) as error:
        merge(adapter, tmp_path / "merged")
    code, message = refused(error)
    assert (code, message[: len(UNMERGEABLE[peft_type])]) == ("SG753", UNMERGEABLE[peft_type])
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@PEFT_SAYS
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_lora_are_merged(variant, tmp_path, byte_level_model):
    adapter = make_adapter(tmp_path / "adapter", byte_level_model, "LORA", **VARIANTS[variant])
    check_merged(byte_level_model, adapter, tmp_path / "merged")


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_tied_embeddings_that_were_trained_are_merged(tmp_path):
    base = save_model(tmp_path / "base", byte_level_tokenizer(), tie_word_embeddings=True)
    kwargs = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    check_merged(base, make_adapter(tmp_path / "adapter", base, "LORA", **kwargs), tmp_path / "merged")


# Adapters on a tied embedding, and whether the two are still tied with them.
ON_TIED = {
    "embeddings alone": ({"target_modules": ["q_proj", "embed_tokens"]}, False),
    "head alone": ({"target_modules": ["q_proj", "lm_head"]}, False),
    "both together": ({"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}, True),
    "other tokens": ({"trainable_token_indices": {"embed_tokens": [65, 66], "lm_head": [65]}}, False),
    "neither": ({}, True),
}


@PEFT_SAYS
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("variant", ON_TIED)
def test_what_tied_embeddings_share_is_no_longer_shared_where_they_differ(variant, tmp_path):
    kwargs, is_tied = ON_TIED[variant]
    base = save_model(tmp_path / "base", byte_level_tokenizer(), tie_word_embeddings=True)
    check_merged(base, make_adapter(tmp_path / "adapter", base, "LORA", **kwargs), tmp_path / "merged")
    assert AutoConfig.from_pretrained(tmp_path / "merged").tie_word_embeddings is is_tied


def test_merging_into_tied_embeddings_says_nothing_of_trouble(tmp_path):
    base = save_model(tmp_path / "base", byte_level_tokenizer(), tie_word_embeddings=True)
    with warnings.catch_warnings(action="ignore"):
        adapter = make_adapter(tmp_path / "adapter", base, "LORA", target_modules=["q_proj", "embed_tokens"])
    merge(adapter, tmp_path / "merged")  # any warning is an error


def test_a_grown_base_and_new_tokens_are_in_it(grown_run, tmp_path, bos_model):
    grown = peft.PeftConfig.from_pretrained(grown_run).base_model_name_or_path
    check_merged(grown, grown_run, tmp_path / "merged")
    assert (
        AutoConfig.from_pretrained(tmp_path / "merged").vocab_size
        == len(AutoTokenizer.from_pretrained(bos_model)) + 2
    )
    tokenizer, of_adapter = map(AutoTokenizer.from_pretrained, (tmp_path / "merged", grown_run))
    assert tokenizer.chat_template == of_adapter.chat_template
    assert tokenizer.get_vocab() == of_adapter.get_vocab()
    ends = GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "</s>"]

    # the base as it was before: it grows anew, and every new row is the adapter's
    merge(grown_run, tmp_path / "again", base=bos_model)
    torch.testing.assert_close(base_logits(tmp_path / "again"), base_logits(tmp_path / "merged"))


def test_a_quantized_base_is_dequantized_and_then_merged(quantized_run, tmp_path, byte_level_model):
    made = merge(quantized_run, tmp_path / "merged")
    assert made.dequantized_from == "4 bits (nf4)"
    assert not hasattr(AutoConfig.from_pretrained(tmp_path / "merged"), "quantization_config")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.bfloat16  # bnb_4bit_compute_dtype

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    small = AutoModelForCausalLM.from_pretrained(byte_level_model, quantization_config=nf4)
    plain = AutoModelForCausalLM.from_pretrained(byte_level_model)
    for name, layer in small.named_modules():
        if isinstance(layer, Linear4bit):
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            plain.get_submodule(name).weight.data = weight
    exact = logits(peft.PeftModel.from_pretrained(plain, quantized_run))
    assert not torch.allclose(exact, adapter_logits(byte_level_model, quantized_run), atol=0.5)
    torch.testing.assert_close(logits(merged), exact, atol=0.2, rtol=0.02)  # bfloat16
    quantized = adapter_logits(byte_level_model, quantized_run, quantization_config=nf4)
    torch.testing.assert_close(logits(merged), quantized, atol=0.3, rtol=0.02)

    merge(quantized_run, tmp_path / "float32", dtype="float32")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "float32").dtype == torch.float32


def test_a_base_in_8_bits_is_dequantized_too(quantized_run, tmp_path, byte_level_model):
    run = shutil.copytree(quantized_run.parent, tmp_path / "run")
    edit_json(
        run / "resolved.json", quantization={"class": "BitsAndBytesConfig", "kwargs": {"load_in_8bit": True}}
    )
    made = merge(run, tmp_path / "merged")
    assert made.dequantized_from == "8 bits"
    eight = adapter_logits(
        byte_level_model, quantized_run, quantization_config=BitsAndBytesConfig(load_in_8bit=True)
    )
    torch.testing.assert_close(base_logits(tmp_path / "merged"), eight, atol=0.3, rtol=0.05)


def test_weights_out_of_range_are_refused(tmp_path, byte_level_model):
    adapter = make_adapter(tmp_path / "adapter", byte_level_model, "LORA", lora_alpha=10**7)
    merge(adapter, tmp_path / "merged", dtype="bfloat16")
    with pytest.raises(Refused, match="SG755"):
        merge(adapter, tmp_path / "half", dtype="float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "merged"]


@pytest.fixture
def adapter(tmp_path, byte_level_model):
    return make_adapter(tmp_path / "adapter", byte_level_model, "LORA")


def test_a_folder_with_other_files_stays(adapter, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "notes.txt", adapter):
        with pytest.raises(Refused, match="SG754"):
            merge(adapter, out)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    merge(adapter, tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").exists()


def test_the_working_directory_is_filled_where_it_is_empty(adapter, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    merge(adapter, Path())
    assert (tmp_path / "here" / "model.safetensors").exists()


def test_a_base_that_is_not_there_is_named(adapter, tmp_path, byte_level_model):
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="./models/base")
    with pytest.raises(Refused) as error:
        merge(adapter, tmp_path / "out")
    assert refused(error) == ("SG751", "there is no folder `./models/base` for the base model of the adapter")
    merge(adapter, tmp_path / "out", base=byte_level_model)


def test_a_base_that_the_adapter_does_not_fit_is_refused(adapter, tmp_path):
    other = save_model(tmp_path / "other", byte_level_tokenizer(), head_dim=16)
    with pytest.raises(Refused, match=r"SG752: the adapter does not fit .*size mismatch"):
        merge(adapter, tmp_path / "out", base=other)


def test_weights_that_the_adapter_lacks_are_not_made_up(adapter, tmp_path):
    edit_json(adapter / "adapter_config.json", target_modules="all-linear")
    with pytest.raises(Refused, match=r"SG752: the adapter does not fit .*missing adapter keys"):
        merge(adapter, tmp_path / "out")


def test_an_adapter_that_loads_differently_each_time_is_refused(tmp_path, byte_level_model):
    adapter = make_adapter(tmp_path / "adapter", byte_level_model, "LORA", init_lora_weights="pissa_niter_4")
    with pytest.raises(Refused, match="SG752"):
        merge(adapter, tmp_path / "out")


def test_there_must_be_an_adapter(tmp_path, byte_level_model):
    with pytest.raises(Refused, match=r"SG753: .*holds a whole model"):
        merge(Path(byte_level_model), tmp_path / "out")
    with pytest.raises(Refused, match="SG750: there is no folder"):
        merge(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(Refused, match=r"SG750: .*holds no trained model"):
        merge(tmp_path, tmp_path / "out")


def test_the_command_says_what_it_did(quantized_run, tmp_path, byte_level_model):
    result = CliRunner().invoke(merge_command, [str(quantized_run.parent), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        f"merged the LORA adapter into {byte_level_model}, dequantized from 4 bits (nf4)\n"
        f"saved {tmp_path}/out (bfloat16)\n"
    )
    again = CliRunner().invoke(merge_command, [str(quantized_run.parent), str(tmp_path / "out")])
    assert again.exit_code == 4
    assert "error[SG754]" in again.stderr


def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    result = CliRunner().invoke(merge_command, [str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code == 4
    assert "error[SG704]: merging needs packages that are not installed: accelerate, " in result.stderr
