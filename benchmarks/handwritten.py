"""The runs of the benchmarks as a person writes them with transformers, TRL, PEFT and bitsandbytes.

With what it takes for both sides to compute the same, so that their losses agree. In dpo one token differs:
TRL's answers end with the line end that the template writes behind their end token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from datasets import load_dataset
from material import FOUR_BITS, LORA
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

if TYPE_CHECKING:
    from material import Run


def train(run: Run) -> None:
    """Train and save the model."""
    model = AutoModelForCausalLM.from_pretrained(
        run.model,
        dtype=getattr(torch, run.dtype),
        attn_implementation="sdpa",
        device_map="cpu" if run.cpu else "auto",
        quantization_config=four_bits(run) if run.kind == "qlora" else None,
    )
    if run.kind == "qlora":
        for module in model.modules():  # bitsandbytes 0.50 gets gradients wrong on CPUs with AVX512-BF16
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=run.checkpointing)
    trainer = (dpo if run.kind == "dpo" else sft)(run, model)
    if run.kind == "qlora":
        for weight in trainer.model.parameters():  # TRL makes them bfloat16, and PEFT loads them as float32
            if weight.requires_grad:
                weight.data = weight.data.float()
    trainer.train()
    trainer.save_model(f"{run.output}/final")


def sft(run: Run, model: torch.nn.Module) -> SFTTrainer:
    return SFTTrainer(
        model=model,
        args=SFTConfig(
            **arguments(run),
            assistant_only_loss=True,
            packing=run.packing,
        ),
        train_dataset=load_dataset("json", data_files=run.data, split="train"),
        processing_class=AutoTokenizer.from_pretrained(run.model),
        peft_config=adapter(run),
    )


def dpo(run: Run, model: torch.nn.Module) -> DPOTrainer:
    data = load_dataset("json", data_files=run.data, split="train")
    names = ("prompt", "chosen", "rejected")
    return DPOTrainer(
        model=model,
        args=DPOConfig(**arguments(run), beta=0.1),
        train_dataset=data.rename_columns({f"{name}_messages": name for name in names}),
        processing_class=AutoTokenizer.from_pretrained(run.model),
        peft_config=adapter(run),
    )


def arguments(run: Run) -> dict[str, object]:
    return {
        "output_dir": run.output,
        "max_steps": run.steps,
        "per_device_train_batch_size": run.batch,
        "gradient_accumulation_steps": run.accumulation,
        "learning_rate": run.learning_rate,
        "lr_scheduler_type": "constant",
        "max_length": run.max_length,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": run.cpu,
        "bf16": run.dtype == "bfloat16",
        "gradient_checkpointing": run.checkpointing,
    }


def adapter(run: Run) -> LoraConfig | None:
    return None if run.kind == "full" else LoraConfig(task_type="CAUSAL_LM", **LORA)


def four_bits(run: Run) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(bnb_4bit_compute_dtype=getattr(torch, run.dtype), **FOUR_BITS)
