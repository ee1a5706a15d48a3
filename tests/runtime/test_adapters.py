"""Every type of adapter trains and loads again, or is refused with its reason."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch
from paths import ROOT
from peft import LoraConfig, PeftModel, get_peft_model
from silogen_compiler import trainable
from silogen_compiler.chat_templates import chat_template
from silogen_compiler.diagnostics import Refused
from silogen_compiler.pipeline import compile_text
from silogen_runtime import machine
from silogen_runtime.trainer import build_trainer
from tiny import ARGS, LINES, write_lines
from transformers import AutoModelForCausalLM, AutoTokenizer

# The arguments of each type: what it requires, and sizes that fit a model with 64 numbers a token.
KWARGS = {
    "ADALORA": {"total_step": 3},
    "ADAMSS": {"r": 8},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
    "BEFT": {},
    "BOFT": {},
    "C3A": {"block_size": 32},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "CPT": {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 2]},
    "DEFT": {},
    "DELORA": {},
    "FOURIERFT": {},
    "FROD": {},
    "GLORA": {},
    "GRALORA": {"r": 8},
    "HIRA": {"r": 8},
    "HRA": {},
    "IA3": {},
    "LILY": {"r": 8},
    "LN_TUNING": {},
    "LOHA": {},
    "LOKR": {},
    "LORA": {},
    "MISS": {"r": 8},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 2},
    "OFT": {},
    "OSF": {},
    "PEANUT": {"r": 8},
    "POLY": {},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "PSOFT": {"r": 8},
    "PVERA": {"r": 8},
    "P_TUNING": {"num_virtual_tokens": 4},
    "RANDLORA": {"r": 8},
    "ROAD": {},
    "SHADOW": {},
    "SHIRA": {"r": 8},
    "SUPERTUNING": {},
    "TINYLORA": {},
    "TRAINABLE_TOKENS": {"token_indices": list(range(65, 91))},  # the letters a to z
    "UNILORA": {},
    "VBLORA": {"num_vectors": 16, "vector_length": 32},
    "VERA": {"r": 8},
    "WAVEFT": {"n_frequency": 256},
    "XLORA": {"hidden_size": 64, "adapters": {"0": "expert", "1": "expert"}},
}

# Types that are refused, and what the libraries say when they are not.
UNTRAINABLE = {
    "ADAPTION_PROMPT": "no attribute 'log_probs'",
    "CPT": "no attribute 'logits'",
    "MULTITASK_PROMPT_TUNING": "task_ids cannot be None",
    "POLY": "task_ids should not be None",
    "XLORA": "no attribute 'hidden_states'",
}

# Warnings of peft and torch that a person can do nothing about.
WARNINGS = {
    "BEFT": ["Detected that the base layer has no bias term"],
    "BOFT": ["Failed to load the CUDA extension", "Setting boft_n_butterfly_factor to 1"],
    "FROD": ["Sparse invariant checks are implicitly disabled", "Sparse CSR tensor support is in beta"],
    "LN_TUNING": ["Unsupported layer type .*LlamaRMSNorm"],
}

UNUSED = ".layers.1.shadow_update_"  # of SHADOW: its state after the last layer, which nothing reads


def peft_types() -> list[str]:
    definitions = json.loads((ROOT / "schema/peft_conf.schema.json").read_text())["$defs"]
    names = [choice["$ref"].rpartition("/")[2] for choice in definitions["PeftConfig"]["oneOf"]]
    adapters = [definitions[name]["properties"] for name in names]
    return [keys["peft_type"]["const"] for keys in adapters if "peft_kwargs" in keys]


def case(peft_type: str):
    """Return a type as a test case, without its warnings, and skipped where its package is missing."""
    marks = [pytest.mark.filterwarnings(f"ignore:{text}") for text in WARNINGS.get(peft_type, ())]
    missing = peft_type == "ADAMSS" and find_spec("sklearn") is None
    return pytest.param(peft_type, marks=[*marks, pytest.mark.skipif(missing, reason="needs scikit-learn")])


@pytest.fixture
def compiled(tmp_path, byte_level_model):
    """Return a function that returns what a config with a type of adapter compiles to."""

    def build(peft_type: str, template="keep-original") -> dict:
        path = write_lines(tmp_path / "data.jsonl", LINES[:4])
        config = {
            "data_conf": {
                "training_data": {"type": "CONCATENATION", "datasets": [{"path": path}]},
                "validation_data": {"type": "NONE"},
                "chat_template_name": template,
                "missing_pad_token_strategy": "eos-repurpose",
            },
            "training_args": {**ARGS, "max_steps": 3, "output_dir": str(tmp_path / "out")},
            "batchsize_conf": {"total_train_batch_size": 4, "max_per_device_train_batch_size": 4},
            "peft_conf": {"peft_type": peft_type, "peft_kwargs": KWARGS[peft_type]},
            "run_conf": {"model": byte_level_model, "model_args": {"use_cache": False}},  # XLORA refuses it
            "sft_args": {"max_seq_length": 256, "train_on_completions_only": True},
        }
        result = compile_text("run.json", json.dumps(config), environment={})
        assert result.resolved, result.diagnostics
        return result.resolved

    return build


@pytest.fixture
def built(monkeypatch):
    """Return a list that each run appends its model to, with a copy of the weights that it will train."""
    seen = []

    def build(*parts):
        trainer = build_trainer(*parts)
        start = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
        seen.append((trainer.model, start))
        return trainer

    monkeypatch.setattr("silogen_runtime.train.build_trainer", build)
    return seen


@pytest.fixture
def expert(monkeypatch, tmp_path, byte_level_model):
    """Save the adapter that XLORA mixes."""
    monkeypatch.chdir(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(byte_level_model)
    get_peft_model(base, LoraConfig(task_type="CAUSAL_LM")).save_pretrained("expert")


def last_logits(model, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1]


def test_every_type_has_its_arguments_here():
    assert sorted(KWARGS) == sorted(peft_types())


def test_what_can_not_be_trained_is_refused_by_class(compiled):
    assert sorted(compiled(name)["peft"]["class"] for name in UNTRAINABLE) == sorted(trainable.UNTRAINABLE)


@pytest.mark.parametrize("peft_type", [case(name) for name in peft_types() if name not in UNTRAINABLE])
def test_it_trains_and_loads_again(compiled, run, built, byte_level_model, peft_type):
    outcome, _ = run(compiled(peft_type))
    model, start = built[0]
    now = dict(model.named_parameters())
    assert [name for name in start if torch.equal(now[name], start[name]) and UNUSED not in name] == []

    base = AutoModelForCausalLM.from_pretrained(byte_level_model)
    ids = torch.arange(65, 91)[None]
    untrained = last_logits(base, ids)
    loaded = last_logits(PeftModel.from_pretrained(base, outcome.final_checkpoint), ids)
    torch.testing.assert_close(loaded, last_logits(model, ids))
    assert not torch.equal(loaded, untrained)


@pytest.mark.parametrize("peft_type", UNTRAINABLE)
def test_it_is_refused_before_anything_is_loaded(compiled, run, monkeypatch, tmp_path, peft_type):
    monkeypatch.delattr("silogen_runtime.train.load_tokenizer")
    resolved = compiled(peft_type)
    with pytest.raises(Refused) as refused:
        run(resolved)
    (finding,) = refused.value.diagnostics
    assert finding.code == "SG725"
    assert finding.message.startswith(f"{resolved['peft']['class']} can be compiled, but not trained: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("expert")
@pytest.mark.parametrize(("peft_type", "error"), UNTRAINABLE.items())
def test_it_would_fail(compiled, run, monkeypatch, peft_type, error):
    monkeypatch.setattr(trainable, "UNTRAINABLE", {})
    with pytest.raises(Refused, match=error):
        run(compiled(peft_type))


def test_a_type_whose_package_is_missing_is_refused(compiled, run, monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    with pytest.raises(Refused, match="SG704: AdamssConfig needs the package `sklearn`"):
        run(compiled("ADAMSS"))


@pytest.mark.parametrize("peft_type", ["PROMPT_TUNING", "P_TUNING", "TRAINABLE_TOKENS"])
def test_new_tokens_that_it_would_not_learn_are_refused(compiled, run, peft_type):
    resolved = compiled(peft_type)
    resolved["tokenizer"]["chat_template"] = chat_template("chat-ml")
    with pytest.raises(Refused, match=r"SG716.*does not train their embeddings"):
        run(resolved)


def test_new_tokens_among_its_tokens_are_learned(compiled, run, byte_level_model):
    resolved = compiled("TRAINABLE_TOKENS", template="chat-ml")
    size = len(AutoTokenizer.from_pretrained(byte_level_model))
    resolved["peft"]["kwargs"]["token_indices"] += [size, size + 1]
    run(resolved)
