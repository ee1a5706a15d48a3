"""Adapters on disk, trained and made, and what models say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM, set_seed

if TYPE_CHECKING:
    from pathlib import Path

IDS = torch.arange(65, 91)[None]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -1].float()


def base_logits(folder) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(folder))


def adapter_logits(base, folder, **kwargs) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, **kwargs), folder))


def make_adapter(folder: Path, base: str, peft_type: str, **kwargs) -> Path:
    """Save an adapter whose weights are moved from where they begin, as training would."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING[peft_type](task_type="CAUSAL_LM", **kwargs)
    set_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(error) -> tuple[str, str]:
    """Return code and message of the only finding."""
    (finding,) = error.value.diagnostics
    return finding.code, finding.message
