"""Whole runs: the loss falls, and what a run leaves behind can be used."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from silogen_compiler.diagnostics import Refused
from tiny import LORA, bos_tokenizer, losses, save_model
from transformers import AutoModelForCausalLM, AutoTokenizer

FOUR_BITS = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}


def falls(curve: list[float]) -> bool:
    return len(curve) > 3 and curve[-1] < 0.85 * curve[0]


def answer(model, tokenizer, question: str) -> str:
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = model.generate(**prompt, max_new_tokens=40, do_sample=False)
    return tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :])


@pytest.mark.parametrize(
    ("peft", "quantization"),
    [(None, None), (LORA, None), (LORA, FOUR_BITS), (LORA, {"load_in_8bit": True})],
    ids=["full", "lora", "4-bit", "8-bit"],
)
def test_the_loss_falls(resolve, run, tmp_path, peft, quantization):
    quantization = quantization and {"class": "BitsAndBytesConfig", "kwargs": quantization}
    run(resolve(template="keep-original", peft=peft, quantization=quantization, args={"max_steps": 24}))
    assert falls(losses(tmp_path / "out"))


@pytest.mark.parametrize("quantization", [None, FOUR_BITS], ids=["none", "4-bit"])
def test_checkpointed_activations_give_the_same_losses(resolve, run, tmp_path, quantization):
    quantization = quantization and {"class": "BitsAndBytesConfig", "kwargs": quantization}
    config = {"template": "keep-original", "peft": LORA, "quantization": quantization}
    run(resolve(**config, args={"max_steps": 4}))
    expected = losses(tmp_path / "out")
    for reentrant in (True, False):
        kwargs = {"activation_checkpointing_kwargs": {"use_reentrant": reentrant}}
        run(resolve(**config, args={"max_steps": 4, "activation_checkpointing": True, **kwargs}))
        assert losses(tmp_path / "out") == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("template", ["chat-ml", "mistral-with-system", "poro", "simplified-llama31"])
def test_every_template_trains(resolve, run, tmp_path, bos_model, template):
    run(resolve(model=bos_model, template=template, args={"learning_rate": 0.02}))
    assert falls(losses(tmp_path / "out"))


def test_a_full_model_answers_and_stops(resolve, run):
    config = resolve(args={"max_steps": 80, "learning_rate": 0.005})
    outcome, _ = run(config)
    tokenizer = AutoTokenizer.from_pretrained(outcome.final_checkpoint)
    model = AutoModelForCausalLM.from_pretrained(outcome.final_checkpoint)
    assert answer(model, tokenizer, "What is the capital of Finland?") == (
        "The capital of Finland is Helsinki.<|im_end|>"
    )
    assert tokenizer.eos_token == "<|im_end|>"
    assert not list(outcome.final_checkpoint.glob("*.bin"))


def test_an_adapter_that_learned_new_tokens_answers_on_the_grown_base(resolve, run, bos_model, tmp_path):
    outcome, _ = run(resolve(model=bos_model, peft=LORA, args={"max_steps": 80}))
    grown = tmp_path / "out" / "checkpoint-new-basemodel"
    adapter = json.loads((outcome.final_checkpoint / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(grown)
    assert adapter["modules_to_save"] == ["embed_tokens", "lm_head"]
    model = AutoPeftModelForCausalLM.from_pretrained(outcome.final_checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(outcome.final_checkpoint)
    assert answer(model, tokenizer, "What is the capital of Finland?") == (
        "The capital of Finland is Helsinki.<|im_end|>"
    )


def test_an_adapter_trains_the_output_layer_that_it_saves(resolve, run, bos_model, tmp_path):
    run(resolve(model=bos_model, peft=LORA))
    before = load_file(tmp_path / "out" / "checkpoint-new-basemodel" / "model.safetensors")
    after = load_file(tmp_path / "out" / "checkpoint-final" / "adapter_model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        change = (after[f"base_model.model.{name}"] - before[name]).abs().amax(dim=1)
        assert change[-1] > 0, name  # the row of <|im_end|>


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_saved_adapter_gives_the_same_logits_on_the_grown_base(resolve, run, tmp_path, monkeypatch, tied):
    model = save_model(tmp_path / "base", bos_tokenizer(), tie_word_embeddings=tied)
    trained = []
    monkeypatch.setattr("silogen_runtime.train.refuse_lost_weights", trained.append)
    outcome, _ = run(resolve(model=model, peft=LORA, args={"max_steps": 4}))
    loaded = AutoPeftModelForCausalLM.from_pretrained(outcome.final_checkpoint)
    ids = torch.arange(len(AutoTokenizer.from_pretrained(outcome.final_checkpoint)))[None]
    with torch.no_grad():
        expected, found = (each.eval()(input_ids=ids).logits for each in (trained[0], loaded))
    torch.testing.assert_close(found, expected)
    merged = loaded.merge_and_unload()
    ends = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert torch.equal(*ends) == tied


def test_new_tokens_in_spare_rows_need_no_new_base(resolve, run, tmp_path):
    outcome, _ = run(resolve(peft=LORA))
    assert not (tmp_path / "out" / "checkpoint-new-basemodel").exists()
    adapter = json.loads((outcome.final_checkpoint / "adapter_config.json").read_text())
    assert adapter["modules_to_save"] == ["embed_tokens", "lm_head"]


def test_an_earlier_adapter_is_trained_on(resolve, run, tmp_path, byte_level_model):
    first, _ = run(resolve(template="keep-original", peft=LORA))
    curve = losses(tmp_path / "out")
    first.final_checkpoint.rename(tmp_path / "adapter")
    second, _ = run(resolve(template="keep-original", peft={"pretrained": str(tmp_path / "adapter")}))
    assert losses(tmp_path / "out")[0] < curve[0]
    base = AutoModelForCausalLM.from_pretrained(byte_level_model)
    assert PeftModel.from_pretrained(base, second.final_checkpoint)


def test_packing_is_left_to_trl(resolve, run, tmp_path):
    run(resolve(args={"dataset_kwargs": None, "packing": True, "packing_strategy": "bfd"}))
    assert falls(losses(tmp_path / "out"))


def test_validation_is_recorded_and_drawn(resolve, run, tmp_path):
    config = resolve(
        data={"validation": {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 1}},
        args={"eval_strategy": "steps", "eval_steps": 4},
    )
    outcome, screen = run(config)
    assert outcome.validation_losses
    assert "validation  4 examples" in screen
    assert "validation loss" in screen
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval_loss" in line] == [4, 8]
    assert all(line["tokens_per_second"] > 0 for line in lines if "loss" in line)
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "resolved.json").read_text()) == config


def test_the_report_is_one_page_with_every_chart(run, resolve, tmp_path):
    run(resolve(args={"eval_strategy": "no"}))
    page = (tmp_path / "out" / "report.html").read_text()
    shown = re.findall(r"<figcaption>(.*?)</figcaption><svg", page)
    assert shown == ["Loss", "Learning rate", "Gradient norm", "Throughput", "Memory"]
    assert "max_length: " in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)


def test_the_summary_shows_what_is_trained(resolve, run):
    _, screen = run(resolve(args={"gradient_accumulation_steps": 2, "max_steps": -1, "num_train_epochs": 2}))
    assert "training    16 examples" in screen
    assert "steps       4, of 8 examples each (1 process x 4 per device x 2 accumulated)" in screen
    assert "  [[The capital of Finland is Helsinki.<|im_end|>]]\n" in screen


def test_the_planned_steps_are_those_taken(resolve, run):
    for args in ({}, {"dataloader_drop_last": True}, {"num_train_epochs": 0.6}):
        steps = {"max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 3}
        outcome, screen = run(resolve(args={**steps, "gradient_accumulation_steps": 2, **args}))
        assert f"steps       {outcome.steps}, of 6 examples each" in screen


def test_the_same_config_gives_the_same_weights(resolve, run):
    weights = []
    for _ in range(2):
        outcome, _ = run(resolve(peft=LORA))
        weights.append((outcome.final_checkpoint / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_half_determinism_warns_only(resolve, run):
    try:
        run(resolve(run={"determinism": "half"}, args={"max_steps": 1}))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(mode=False)


def test_weights_that_are_no_numbers_are_not_saved(resolve, run, tmp_path):
    with pytest.raises(Refused, match="SG721"):
        run(resolve(args={"learning_rate": 1e38, "max_grad_norm": 0.0}))
    assert not (tmp_path / "out" / "checkpoint-final").exists()


def test_something_else_is_not_a_resolved_config(resolve, run):
    with pytest.raises(Refused, match=r"SG701: data\.max_length"):
        run(resolve(data={"max_length": "long"}))


def test_unset_secrets_are_named(resolve, run, monkeypatch):
    config = resolve(args={"max_steps": 1})
    config["model"]["from_pretrained"]["token"] = "${env:SOME_TOKEN}"
    with pytest.raises(Refused, match="SG711: the environment variable `SOME_TOKEN`"):
        run(config)
    monkeypatch.setenv("SOME_TOKEN", "hf_abc")
    run(config)
    assert "hf_abc" not in "".join(
        file.read_text() for file in Path(config["trainer"]["args"]["output_dir"]).glob("*.json*")
    )


@pytest.mark.parametrize(
    "quantization", [None, FOUR_BITS, {"load_in_8bit": True}], ids=["none", "4-bit", "8-bit"]
)
def test_evaluation_does_not_change_training(resolve, run, tmp_path, quantization):
    config = {
        "template": "keep-original",
        "peft": {
            **LORA,
            "kwargs": {**LORA["kwargs"], "lora_dropout": 0.0},
        },  # evaluation draws a random number
        "quantization": quantization and {"class": "BitsAndBytesConfig", "kwargs": quantization},
        "data": {"validation": {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 1}},
    }
    run(resolve(**config))
    expected = losses(tmp_path / "out")
    run(resolve(**config, args={"eval_strategy": "steps", "eval_steps": 2}))
    assert losses(tmp_path / "out") == expected
