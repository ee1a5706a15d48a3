"""Models saved once for all tests, and runs."""

from __future__ import annotations

import io
from functools import cache

import pytest
import torch
from rich.console import Console
from silogen_compiler.emit import add_digest
from silogen_config import ResolvedConfig
from silogen_runtime.tokenizer import load_tokenizer
from silogen_runtime.train import train
from tiny import LORA, bos_tokenizer, byte_level_tokenizer, resolved_config, save_model


def pytest_configure(config):
    torch.set_num_threads(1)  # models this small are faster on one core
    # peft asks transformers by an older name; inside a run the runtime keeps this quiet itself
    config.addinivalue_line(
        "filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
    )


@pytest.fixture(autouse=True)
def _few_charts(request, monkeypatch):
    """Draw the charts of report.html, half of a short run, only for files of tests that look at it."""
    if "report.html" not in request.path.read_text("utf-8"):
        monkeypatch.setattr("silogen_runtime.report._as_svg", lambda *_: "")


@pytest.fixture(scope="session")
def byte_level_model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("byte-level"), byte_level_tokenizer(), spare_rows=8)


@pytest.fixture(scope="session")
def bos_model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("bos"), bos_tokenizer())


@pytest.fixture
def resolve(tmp_path, byte_level_model):
    """Return resolved_config for a fresh folder, with the byte-level model unless told otherwise."""

    def build(*, model=byte_level_model, **changes):
        return resolved_config(tmp_path, model=model, **changes)

    return build


@pytest.fixture
def run():
    """Return a function that trains a resolved config and returns its outcome and what it printed."""

    def start(resolved: dict):
        screen = io.StringIO()
        outcome = train(resolved, console=Console(file=screen, width=120))
        return outcome, screen.getvalue()

    return start


@pytest.fixture(scope="session")
def grown_run(tmp_path_factory, bos_model):
    """Train a LoRA adapter with new tokens, for which the base grows, until it knows its data by heart."""
    return _trained(
        tmp_path_factory.mktemp("grown"),
        bos_model,
        args={"max_steps": 60},
        data={"validation": {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 1}},
    )


@pytest.fixture(scope="session")
def quantized_run(tmp_path_factory, byte_level_model):
    """Train a LoRA adapter, also on the embeddings, on a base in 4 bits; its checkpoint is there too."""
    nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    return _trained(
        tmp_path_factory.mktemp("quantized"),
        byte_level_model,
        args={"max_steps": 4, "save_strategy": "steps", "save_steps": 4},
        template="keep-original",
        quantization={"class": "BitsAndBytesConfig", "kwargs": nf4},
        lora={"target_modules": ["q_proj", "up_proj", "embed_tokens"]},
    )


def _trained(folder, model, *, lora=(), **changes):
    peft = {**LORA, "kwargs": {**LORA["kwargs"], **dict(lora)}}
    resolved = resolved_config(folder, model=model, peft=peft, **changes)
    return train(add_digest(resolved), console=Console(quiet=True)).final_checkpoint


@pytest.fixture(scope="session")
def load_chat(tmp_path_factory, byte_level_model, bos_model):
    """Return a function that sets a tokenizer up for training; `model` is "byte-level" or "bos"."""
    models = {"byte-level": byte_level_model, "bos": bos_model}
    folder = tmp_path_factory.mktemp("chats")

    @cache
    def load(model: str, template: str):
        resolved = resolved_config(folder, model=models[model], template=template)
        return load_tokenizer(ResolvedConfig.model_validate(resolved))

    return load
