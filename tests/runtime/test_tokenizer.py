"""Special tokens, padding, and the tokenizer that is saved."""

from __future__ import annotations

import pytest
from silogen_compiler.chat_templates import TOKENS as CHAT_TEMPLATES
from silogen_compiler.chat_templates import chat_template
from silogen_compiler.diagnostics import Refused
from silogen_config import ResolvedConfig
from silogen_runtime.chat import IGNORED, encode
from silogen_runtime.examples import Conversation
from silogen_runtime.tokenizer import for_inference, load_tokenizer, uses_bos
from silogen_runtime.trainer import build_args, build_collator
from tiny import (
    LORA,
    bos_tokenizer,
    byte_level_tokenizer,
    resolved_config,
    save_model,
)
from transformers import AutoTokenizer

MESSAGES = [
    {"role": "user", "content": "Add two and three."},
    {"role": "assistant", "content": "The answer is five."},
]

FINDINGS = {
    "no-template": (lambda t: setattr(t, "chat_template", None), {"template": "keep-original"}, "SG712"),
    "no-end": (lambda t: setattr(t, "eos_token", None), {"template": "keep-original"}, "SG713: .*SG714"),
    "no-such-end": (
        lambda _: None,
        {"tokenizer": {"chat_template": {**chat_template("chat-ml"), "assistant_end": "<end>"}}},
        "SG713: `<end>`",
    ),
    "no-bos": (
        lambda _: None,
        {"tokenizer": {"missing_pad_token_strategy": "bos-repurpose"}},
        "SG714.*bos_token",
    ),
    "no-unk": (
        lambda _: None,
        {"tokenizer": {"missing_pad_token_strategy": "unk-repurpose"}},
        "SG714.*unk_token",
    ),
    "pad": (
        lambda t: setattr(t, "pad_token", "a"),
        {"tokenizer": {"missing_pad_token_strategy": "unk-convert-to-eos"}},
        "SG714: .*this one has `a`",
    ),
}


def parse(resolved: dict) -> ResolvedConfig:
    return ResolvedConfig.model_validate(resolved)


@pytest.mark.parametrize(("change", "sections", "said"), FINDINGS.values(), ids=FINDINGS)
def test_what_the_tokenizer_lacks_is_found(tmp_path, change, sections, said):
    tokenizer = byte_level_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(Refused, match=said):
        load_tokenizer(parse(resolved_config(tmp_path, model=str(tmp_path), **sections)))


@pytest.mark.parametrize(
    ("strategy", "pad"),
    [
        ("eos-repurpose", "</s>"),
        ("bos-repurpose", "<s>"),
        ("unk-repurpose", "<unk>"),
        ("unk-convert-to-eos", "<unk>"),
    ],
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_never_learned(resolve, bos_model, strategy, pad, side):
    tokens = {"missing_pad_token_strategy": strategy, "padding_side": side}
    config = parse(resolve(model=bos_model, template="keep-original", tokenizer=tokens))
    chat = load_tokenizer(config)
    assert chat.tokenizer.pad_token == pad
    examples = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    batch = build_collator(config, build_args(config), chat.tokenizer)(examples)
    padded = chat.tokenizer.eos_token_id if strategy == "unk-convert-to-eos" else chat.tokenizer.pad_token_id
    short = {"input_ids": [8, padded, padded], "labels": [8, -100, -100], "attention_mask": [1, 0, 0]}
    for name, expected in short.items():
        assert batch[name][1].tolist() == (expected if side == "right" else expected[::-1])
    assert batch["labels"][0].tolist() == [-100, 6, 7]


def test_a_pad_token_of_its_own_is_kept(resolve, tmp_path):
    tokenizer = bos_tokenizer()
    tokenizer.pad_token = "<unk>"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    chat = load_tokenizer(parse(resolve(model=str(tmp_path / "tokenizer"))))
    assert chat.tokenizer.pad_token == "<unk>"


@pytest.mark.parametrize("template", CHAT_TEMPLATES)
@pytest.mark.parametrize("model", ["byte-level", "bos"])
def test_a_saved_tokenizer_renders_what_was_trained(load_chat, tmp_path, model, template):
    chat = load_chat(model, template)
    for_inference(chat).save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    trained, findings = encode(chat, [Conversation(MESSAGES, "x.jsonl", 1)], loss_on="assistant")
    ids = saved.apply_chat_template(MESSAGES)["input_ids"]
    assert not findings
    assert ids == trained[0].input_ids.tolist()
    assert ids.count(saved.bos_token_id) == (model == "bos")
    assert uses_bos(saved) == (model == "bos")
    assert saved.eos_token == chat.assistant_end
    assert ids.count(saved.eos_token_id) == (
        2 if template in {"chat-ml", "poro", "simplified-llama31"} else 1
    )


# Those of Gemma and of Qwen's base models end turns with another token than the tokenizer's own.
TURNS = (
    "{% for m in messages %}{{ '<turn>' + m['role'] + '\n' + m['content'] + '</turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)


def test_a_template_that_ends_turns_with_another_token_is_kept(resolve, tmp_path):
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "</turn>"]})
    tokenizer.chat_template = TURNS
    tokenizer.save_pretrained(tmp_path / "turns")
    chat = load_tokenizer(parse(resolve(model=str(tmp_path / "turns"), template="keep-original")))
    (example,), findings = encode(chat, [Conversation(MESSAGES, "x.jsonl", 1)], loss_on="assistant")
    learned = [token for token in example.labels if token != IGNORED]
    assert findings == []
    assert chat.tokenizer.decode(learned) == "The answer is five.</turn>"
    assert for_inference(chat).eos_token == "</turn>"


def test_a_tokenizer_that_adds_an_end_token_stops_doing_so(resolve, tmp_path):
    tokenizer = bos_tokenizer()
    tokenizer.add_bos_token = tokenizer.add_eos_token = True
    tokenizer.save_pretrained(tmp_path / "eos")
    chat = load_tokenizer(parse(resolve(model=str(tmp_path / "eos"))))
    for_inference(chat).save_pretrained(tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    ids = saved("Add").input_ids
    assert ids[0] == saved.bos_token_id
    assert ids.count(saved.bos_token_id) == 1
    assert saved.convert_tokens_to_ids("</s>") not in ids
    assert saved.eos_token_id not in ids


def test_a_template_that_writes_bos_twice_is_found(resolve, bos_model):
    template = {"name": "twice", "template": "{{ bos_token + bos_token }}{{ messages[0]['content'] }}"}
    chat_template = {**template, "added_tokens": [], "assistant_end": None}
    chat = load_tokenizer(parse(resolve(model=bos_model, tokenizer={"chat_template": chat_template})))
    _, findings = encode(chat, [Conversation(MESSAGES, "x.jsonl", 3)], loss_on="all")
    assert [finding.code for finding in findings] == ["SG608"]
    assert "2 BOS tokens" in findings[0].message
    assert findings[0].span.line == 3


def test_new_tokens_need_weights_that_can_learn_them(resolve, run, bos_model):
    quantization = {"class": "BitsAndBytesConfig", "kwargs": {"load_in_8bit": True}}
    with pytest.raises(Refused, match=r"SG716: .*adds 2 tokens .*quantized"):
        run(resolve(model=bos_model, peft=LORA, quantization=quantization))
    first, _ = run(resolve(model=bos_model, peft=LORA, template="keep-original", args={"max_steps": 1}))
    with pytest.raises(Refused, match=r"SG716: .*adapter"):
        run(resolve(model=bos_model, peft={"pretrained": str(first.final_checkpoint)}))


def test_an_adapter_on_the_output_layer_is_found(resolve, run):
    for targets in (["q_proj", "lm_head"], ".*(q_proj|lm_head)"):
        peft = {**LORA, "kwargs": {**LORA["kwargs"], "target_modules": targets}}
        with pytest.raises(Refused, match=r"SG717: .*`lm_head`"):
            run(resolve(peft=peft))


def test_an_adapter_that_fits_no_layer_is_found(resolve, run):
    peft = {**LORA, "kwargs": {**LORA["kwargs"], "target_modules": ["query"]}}
    with pytest.raises(Refused, match="SG719"):
        run(resolve(peft=peft, template="keep-original"))


def test_float16_weights_are_found(resolve, run, tmp_path):
    model = save_model(tmp_path / "model", byte_level_tokenizer(), spare_rows=8)
    config = resolve(model=model)
    config["model"]["from_pretrained"]["dtype"] = "float16"
    with pytest.raises(Refused, match="SG703: weights in float16"):
        run(config)


def test_a_model_without_safetensors_is_found(resolve, run, tmp_path):
    byte_level_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(Refused, match="SG720"):
        run(resolve(model=str(tmp_path / "model")))
