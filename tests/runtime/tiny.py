"""Tiny models, tokenizers and data, and a resolved config to train them with."""

from __future__ import annotations

import json
from pathlib import Path

from silogen_compiler.pipeline import compile_text
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

OWN_TEMPLATE = (
    "{%- for m in messages %}{{ '### ' + m['role'] + ':\n' + m['content'] }}"
    "{%- if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)

TEXT = [
    "What is the capital of Finland? The capital of Finland is Helsinki.",
    "Add two and three. The answer is five.",
    "def f(x):\n    if x:\n        return 1\n    return 0",
    "You are a helpful assistant. user system assistant",
    "Mikä on Suomen pääkaupunki? Se on Helsinki. 你好 ❤️",
]


def byte_level_tokenizer():
    """Byte-level BPE without BOS, whose post-processor trims offsets as those of Llama 3 and Qwen do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXT * 10,
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", chat_template=OWN_TEMPLATE
    )


def bos_tokenizer():
    """BPE with byte fallback and a BOS before every text, as Llama 2 has it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.train_from_iterator(
        TEXT * 10,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        ),
    )
    written = json.loads(tokenizer.to_str())
    written["added_tokens"] = [
        token for token in written["added_tokens"] if token["id"] < 3
    ]  # bytes are plain
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=OWN_TEMPLATE,
    )


def save_model(folder: Path, tokenizer, *, spare_rows: int = 0, **kwargs) -> str:
    """Save a very small Llama with its tokenizer; spare rows of the embeddings have room for new tokens."""
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + spare_rows,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
        **kwargs,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def conversation(*contents: str, system: str = "") -> dict:
    """Return a line of data: an optional system message, then user and assistant in turn."""
    messages = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    messages += [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return {"messages": messages}


LINES = [
    conversation("What is the capital of Finland?", "The capital of Finland is Helsinki."),
    conversation("Add two and three.", "The answer is five.", "And one more?", "Six."),
    conversation("Write f.", "def f(x):\n    if x:\n        return 1\n    return 0", system="You code."),
    conversation("Mikä on Suomen pääkaupunki?", "Se on Helsinki. ❤️"),
] * 4


def write_lines(path: Path, lines) -> str:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return str(path)


ARGS = {
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "max_steps": 8,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
}

LORA = {
    "class": "LoraConfig",
    "kwargs": {
        "task_type": "CAUSAL_LM",
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "target_modules": "all-linear",
    },
}


def resolved_config(
    folder: Path, *, model: str, lines=LINES, template="chat-ml", args=(), **sections
) -> dict:
    """Return what a config that trains `model` on `lines` compiles to, with changes.

    `args` are merged into the trainer's arguments, a section's changes into the section.
    """
    path = write_lines(folder / "data.jsonl", lines)
    config = config_of(folder, path, model, template)
    config["sft_args"] = {"max_seq_length": 256, "train_on_completions_only": True}
    return changed(config, args, sections)


def preference(prompt: str, chosen: str, rejected: str, system: str = "") -> dict:
    """Return a line of data for dpo."""
    messages = [{"role": "system", "content": system}] if system else []
    return {
        "prompt_messages": [*messages, {"role": "user", "content": prompt}],
        "chosen_messages": [{"role": "assistant", "content": chosen}],
        "rejected_messages": [{"role": "assistant", "content": rejected}],
    }


PAIRS = [
    preference("What is the capital of Finland?", "The capital of Finland is Helsinki.", "Five."),
    preference("Add two and three.", "The answer is five.", "The answer is six, or what is the capital?"),
    preference("Write f.", "def f(x):\n    return 1", "if x:\n        return 0", system="You code."),
    preference("Mikä on Suomen pääkaupunki?", "Se on Helsinki. ❤️", "你好"),
] * 4


def resolved_preferences(
    folder: Path, *, model: str, lines=PAIRS, template="keep-original", args=(), **sections
) -> dict:
    """Return what a config that trains `model` on preferences compiles to, with changes as above."""
    config = config_of(folder, write_lines(folder / "data.jsonl", lines), model, template)
    config |= {"method": "dpo"}
    config["training_args"] |= {
        "learning_rate": 0.001,
        "beta": 0.5,
        "max_length": 256,
        "max_prompt_length": 128,
    }
    return changed(config, args, sections)


def config_of(folder: Path, path: str, model: str, template: str) -> dict:
    return {
        "data_conf": {
            "training_data": {"type": "CONCATENATION", "datasets": [{"path": path}]},
            "validation_data": {"type": "NONE"},
            "chat_template_name": template,
            "missing_pad_token_strategy": "eos-repurpose",
        },
        "training_args": {**ARGS, "output_dir": str(folder / "out")},
        "batchsize_conf": {"total_train_batch_size": 4, "max_per_device_train_batch_size": 4},
        "peft_conf": {"peft_type": "NO_PEFT"},
        "run_conf": {"model": model},
    }


def changed(config: dict, args, sections) -> dict:
    """Return what the config compiles to, with changes."""
    resolved = compile_text("run.json", json.dumps(config), environment={}).resolved
    resolved["trainer"]["args"] |= dict(args)
    for name, changes in sections.items():
        mergeable = isinstance(changes, dict) and isinstance(resolved[name], dict)
        resolved[name] = {**resolved[name], **changes} if mergeable else changes
    return resolved


def losses(folder: str | Path) -> list[float]:
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]
