"""Make the base model of the first run: a small Llama with random weights, and its tokenizer.

Usage: python examples/first-run/make_base_model.py OUT_DIR
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

SEED = 0
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"  # the last two belong to the chat-ml template
DATA_FILES = sorted((Path(__file__).parent / "data").glob("*.jsonl"))


def texts() -> Iterator[str]:
    """Role and content of every message in the example's data."""
    for file in DATA_FILES:
        for line in file.read_text(encoding="utf-8").splitlines():
            for message in json.loads(line)["messages"]:
                yield message["role"]
                yield message["content"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 2,048 tokens, those of the chat template among them."""
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bpe.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=2048,
        special_tokens=[PAD, START, END],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, extra_special_tokens=[START]
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Llama of about one million random weights in float32."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=480,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.08,  # 1/√160: so narrow a model learns slowly from the default, 0.02
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(SEED)
    return LlamaForCausalLM(config)


def main(out_dir: str) -> None:
    """Write model and tokenizer to out_dir."""
    logging.disable_progress_bar()
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    tokenizer.save_pretrained(out_dir)
    model.save_pretrained(out_dir)
    print(f"{out_dir}: Llama with {model.num_parameters():,} random weights, {len(tokenizer):,} tokens")


if __name__ == "__main__":
    main(sys.argv[1])
