"""Going on with an earlier adapter: as it was, on its base model, or not at all."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
from silogen_compiler.diagnostics import Refused
from silogen_config import ResolvedConfig
from silogen_runtime.earlier_adapter import check_adapter, put_on
from tiny import LORA, losses, resolved_config
from transformers import AutoModelForCausalLM

IDS = torch.arange(65, 91)[None]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -1]


def new_adapter(model: str, config: peft.PeftConfig) -> peft.PeftModel:
    """Return a model with an adapter that does something."""
    torch.manual_seed(1)
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.01 * torch.randn_like(parameter)
    return adapted


@pytest.fixture(scope="module")
def saved(tmp_path_factory, byte_level_model):
    """Return the folder of a LoRA adapter of the byte-level model."""
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    new_adapter(byte_level_model, peft.LoraConfig(**LORA["kwargs"])).save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "adapter")


def change(adapter, **keys):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


DAMAGES = {
    "no weights": (lambda a: (a / "adapter_model.safetensors").unlink(), "SG775: .*holds no adapter_model"),
    "a pickle": (
        lambda a: (a / "adapter_model.safetensors").rename(a / "adapter_model.bin"),
        "SG775: .*weights in other files are not loaded",
    ),
    "weights cut off": (
        lambda a: (a / "adapter_model.safetensors").write_bytes(b"\x09"),
        "SG775: .*a damaged adapter_model.safetensors: ",
    ),
    "no JSON": (lambda a: (a / "adapter_config.json").write_text("{"), "SG775: the adapter_config.json of"),
    "unknown type": (lambda a: change(a, peft_type="LORB"), "SG775: .* reads: 'LORB'"),
    "other task": (lambda a: change(a, task_type="SEQ_CLS"), "SG779: .*saved as one for SEQ_CLS"),
    "other base": (
        lambda a: change(a, base_model_name_or_path="you/other"),
        "SG777: the adapter was trained on `you/other`, and goes on `",
    ),
    "can't be trained": (
        lambda a: change(a, peft_type="CPT", cpt_token_ids=[1], cpt_mask=[1], cpt_tokens_type_mask=[1]),
        "SG725: CPTConfig",
    ),
    "can't go on": (lambda a: change(a, peft_type="P_TUNING", num_virtual_tokens=4), "SG778: .*PromptEnc"),
}


def config_for(tmp_path, model, adapter) -> ResolvedConfig:
    return ResolvedConfig.model_validate(
        resolved_config(tmp_path, model=model, peft={"pretrained": str(adapter)})
    )


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments:UserWarning")
@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_wrong_with_it_is_found_before_anything_is_loaded(
    adapter, tmp_path, byte_level_model, damage, said
):
    config = config_for(tmp_path, byte_level_model, adapter)
    assert [*check_adapter(config)] == []
    damage(adapter)
    (finding,) = check_adapter(config)
    with pytest.raises(Refused, match=said):
        raise Refused(finding)
    assert finding.file == str(adapter) or finding.code in {"SG725", "SG778", "SG779"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"target_modules": ["q_proj"]}, "SG776: .* no module takes 24 of its weights, such as `.*k_proj"),
        ({"r": 4}, "SG776: .*size mismatch for .*q_proj.lora_A"),
    ],
)
def test_weights_without_a_place_are_not_dropped(adapter, byte_level_model, keys, said):
    change(adapter, **keys)
    with pytest.raises(Refused, match=said):
        put_on(AutoModelForCausalLM.from_pretrained(byte_level_model), str(adapter))


CONFIGS = [
    peft.LoraConfig(**LORA["kwargs"]),
    peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights="pissa"),
    peft.LoraConfig(task_type="CAUSAL_LM", modules_to_save=["embed_tokens", "lm_head"]),
    peft.IA3Config(task_type="CAUSAL_LM"),
    peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["lora", "pissa", "saved whole", "ia3", "prompt", "prefix"])
def test_it_goes_on_as_it_was(tmp_path, byte_level_model, config):
    first = new_adapter(byte_level_model, config)
    first.save_pretrained(tmp_path / "first")
    torch.manual_seed(2)
    again = put_on(AutoModelForCausalLM.from_pretrained(byte_level_model), str(tmp_path / "first"))
    sizes = [
        sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        for model in (first, again)
    ]
    assert sizes[0] == sizes[1] > 0
    torch.testing.assert_close(logits(again), logits(first))


@pytest.mark.parametrize("bits", [{"load_in_4bit": True}, {"load_in_8bit": True}], ids=["4-bit", "8-bit"])
def test_it_goes_on_above_quantized_weights(resolve, run, tmp_path, adapter, bits):
    quantization = {"class": "BitsAndBytesConfig", "kwargs": bits}
    config = resolve(template="keep-original", peft={"pretrained": str(adapter)}, quantization=quantization)
    _, screen = run(config)
    curve = losses(tmp_path / "out")
    assert "parameters  14,336 of 122,432" in screen
    assert curve[-1] < curve[0]


def test_it_takes_its_grown_base_along(resolve, run, tmp_path, bos_model):
    first, _ = run(resolve(model=bos_model, peft=LORA, args={"max_steps": 1}))
    adapter = first.final_checkpoint.rename(tmp_path / "adapter")
    shutil.rmtree(tmp_path / "out")
    second, _ = run(resolve(model=bos_model, peft={"pretrained": str(adapter)}, args={"max_steps": 1}))
    grown = tmp_path / "out" / "checkpoint-new-basemodel"
    written = json.loads((second.final_checkpoint / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(grown)
    base = AutoModelForCausalLM.from_pretrained(grown)
    assert peft.PeftModel.from_pretrained(base, second.final_checkpoint)


def test_an_encoder_that_was_not_saved_can_not_be_trained_on(resolve, run):
    tokens = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}
    config = resolve(template="keep-original", peft={"class": "PromptEncoderConfig", "kwargs": tokens})
    config["trainer"]["args"] |= {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    run(config)
    config["run"]["resume_from_checkpoint"] = True
    with pytest.raises(Refused, match="SG778"):
        run(config)
