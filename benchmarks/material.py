"""What the training benchmarks run on: a Llama with random weights, its tokenizer, data, and configs.

Everything is drawn from one seed, so that both sides of a comparison and later runs get the same.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).parents[1]

SHAPES = {
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 4096,
    },
    "1b": {  # as Llama 3.2 1B
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128_256,
        "tie_word_embeddings": True,
    },
}

# Marks what the assistant says, as the tokenizers' own masks need it.
TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{%- if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{%- else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
FOUR_BITS = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
KINDS = ("full", "lora", "qlora", "dpo")


@dataclass(frozen=True)
class Run:
    """One training run, which silogen and the hand-written code make alike."""

    kind: str
    model: str
    data: str
    output: str
    steps: int
    batch: int = 4
    accumulation: int = 1
    max_length: int = 512
    packing: bool = False
    cpu: bool = True
    dtype: str = "float32"
    checkpointing: bool = False
    learning_rate: float = 1e-4

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def config_of(run: Run) -> dict[str, Any]:
    """Return what a person writes for silogen to make the run."""
    config: dict[str, Any] = {
        "method": "dpo" if run.kind == "dpo" else "sft",
        "data_conf": {
            "training_data": {"type": "CONCATENATION", "datasets": [{"path": run.data}]},
            "validation_data": {"type": "NONE"},
            "chat_template_name": "keep-original",
        },
        "training_args": {
            "output_dir": run.output,
            "max_steps": run.steps,
            "learning_rate": run.learning_rate,
            "lr_scheduler_type": "constant",
            "logging_steps": 10,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": run.cpu,
            "bf16": run.dtype == "bfloat16",
            "gradient_checkpointing": run.checkpointing,
        },
        "batchsize_conf": {
            "total_train_batch_size": run.batch * run.accumulation,
            "max_per_device_train_batch_size": run.batch,
        },
        "run_conf": {"model": run.model, "model_args": {"dtype": run.dtype, "attn_implementation": "sdpa"}},
        "peft_conf": {"peft_type": "NO_PEFT"},
    }
    if run.kind == "dpo":
        config["training_args"] |= {"max_length": run.max_length, "max_prompt_length": run.max_length // 2}
    else:
        config["sft_args"] = {"max_seq_length": run.max_length, "train_on_completions_only": True}
    if run.kind != "full":
        config["peft_conf"] = {"peft_type": "LORA", "peft_kwargs": LORA}
    if run.kind == "qlora":
        config["quant_conf"] = {
            "quantization_type": "bits-and-bytes",
            "bnb_4bit_compute_dtype": run.dtype,
            **FOUR_BITS,
        }
    return config


def resolved_of(run: Run) -> dict[str, Any]:
    """Return what silogen trains. Packing has no key in a config, but TRL's argument in a resolved one."""
    from silogen_compiler.pipeline import compile_data  # noqa: PLC0415 - only for one side of a comparison

    compiled = compile_data(config_of(run))
    assert compiled.resolved is not None, compiled.diagnostics
    if run.packing:
        compiled.resolved["trainer"]["args"] |= {"packing": True, "dataset_kwargs": None}
    return compiled.resolved


def make_model(folder: Path, shape: str, dtype: str) -> str:
    """Save a model of a shape with random weights, and its tokenizer; return the folder."""
    from transformers import AutoModelForCausalLM, LlamaConfig, set_seed  # noqa: PLC0415 - start-up time

    tokenizer = make_tokenizer()
    set_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        dtype=dtype,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of 4,000 tokens, learned from the pages of this project."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(pages(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")  # noqa: S106
    fast.chat_template = TEMPLATE
    return fast


def pages() -> list[str]:
    return [path.read_text("utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))]


def write_conversations(path: Path, count: int, words: tuple[int, int] = (4, 16)) -> str:
    """Write conversations of one to three questions and answers, each of so many words of the pages."""
    draw, text = random.Random(0), " ".join(pages()).split()  # noqa: S311
    lines = []
    for _ in range(count):
        turns = 2 * draw.randint(1, 3)
        roles = ("user", "assistant") * turns
        messages = [{"role": role, "content": _passage(draw, text, words)} for role in roles[:turns]]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def write_preferences(path: Path, count: int, words: tuple[int, int] = (4, 16)) -> str:
    draw, text = random.Random(0), " ".join(pages()).split()  # noqa: S311
    keys = {"prompt_messages": "user", "chosen_messages": "assistant", "rejected_messages": "assistant"}
    lines = [
        {key: [{"role": role, "content": _passage(draw, text, words)}] for key, role in keys.items()}
        for _ in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


def _passage(draw: random.Random, text: list[str], words: tuple[int, int]) -> str:
    start, size = draw.randrange(len(text) - words[1]), draw.randint(*words)
    return " ".join(text[start : start + size])
