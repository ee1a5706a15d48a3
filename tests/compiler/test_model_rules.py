"""What a config asks of the model it names: the rules on tiny model folders, and names against peft."""

from __future__ import annotations

import json
import os
import struct
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from silogen_compiler.codes import CODES
from silogen_compiler.load import load_text
from silogen_compiler.rules import model_files
from silogen_compiler.rules.adapters import BLOCKS
from silogen_compiler.rules.model import check_model
from silogen_compiler.rules.model_files import Weight, read_model, vocabulary_size
from silogen_compiler.rules.model_modules import families, guess_family
from silogen_compiler.validate import validate
from silogen_compiler.values import Values

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 100,
    "max_position_embeddings": 2048,
    "eos_token_id": 1,
    "bos_token_id": 0,
    "dtype": "bfloat16",
}
LAYER = {
    "input_layernorm": (64,),
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (96, 64),
    "mlp.up_proj": (96, 64),
    "mlp.down_proj": (64, 96),
}
WEIGHTS = {
    "model.embed_tokens.weight": (100, 64),
    **{f"model.layers.{i}.{name}.weight": shape for i, (name, shape) in product(range(2), LAYER.items())},
    "model.norm.weight": (64,),
}


def header(weights, dtype="BF16"):
    entries = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, shape in weights.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    return struct.pack("<Q", len(text)) + text


def write_model(folder, config=None, weights=WEIGHTS, **settings_):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps((LLAMA if config is None else config) | settings_))
    if weights:
        (folder / "model.safetensors").write_bytes(header(weights))
    return str(folder)


@pytest.fixture
def llama(tmp_path):
    return write_model(tmp_path / "model")


def config(model, peft=None, *, peft_type="LORA", args=None, quant=None, **sections):
    """Return a whole config; `peft` are the adapter's arguments, `args` those of the model."""
    adapter = {"peft_type": peft_type} | ({} if peft_type == "NO_PEFT" else {"peft_kwargs": peft or {}})
    return {
        "data_conf": {
            "training_data": {"type": "CONCATENATION", "datasets": [{"path": "a.jsonl"}]},
            "validation_data": {"type": "NONE"},
            "chat_template_name": sections.get("template", "keep-original"),
        },
        "method": sections.get("method", "sft"),
        "training_args": sections.get("training_args", {}),
        "batchsize_conf": {"total_train_batch_size": 1, "max_per_device_train_batch_size": 1},
        "peft_conf": adapter,
        "run_conf": {"model": model, "model_args": args or {}, **sections.get("run_conf", {})},
        **({} if "method" in sections else {"sft_args": {"max_seq_length": sections.get("length", 1024)}}),
        **({"quant_conf": {"quantization_type": "bits-and-bytes", **quant}} if quant else {}),
    }


def findings(*args, **kwargs):
    layer = load_text("a.json", json.dumps(config(*args, **kwargs), indent=1))
    wrong, paths = validate(layer)
    assert not wrong
    found = check_model(Values(layer, 1, {}, paths))
    assert all(finding.code in CODES and finding.span for finding in found)
    return found


def codes(*args, **kwargs):
    return [finding.code for finding in findings(*args, **kwargs)]


def marked(finding, *args, **kwargs):
    """Return the text under the carets."""
    line = json.dumps(config(*args, **kwargs), indent=1).splitlines()[finding.span.line - 1]
    return line[finding.span.column - 1 : finding.span.end - 1]


# Module names


@pytest.mark.parametrize(
    "peft",
    [
        {},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["self_attn.q_proj", "model.layers.1.mlp.up_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": "All-Linear", "exclude_modules": ["lm_head"]},
        {"target_modules": r".*\.(q|v)_proj"},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["tokens"]},
        {"target_modules": ["q_proj"], "exclude_modules": r".*layers\.1\..*"},
        {"target_modules": ["q_proj"], "layers_to_transform": 1},
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 1], "layers_pattern": "layers"},
        {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"q_proj": 4, r"layers\.\d\.self_attn\.v_proj": 2},
        },
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [1]}},
        {"target_modules": ["q_proj"], "trainable_token_indices": [1]},
        {"target_parameters": ["mlp.up_proj.weight"]},
        {"rank_pattern": {"q_proj": 4}},
    ],
)
@pytest.mark.parametrize("with_weights", [True, False])
def test_names_that_are_there(tmp_path, peft, with_weights):
    assert findings(write_model(tmp_path / "m", weights=WEIGHTS if with_weights else {}), peft) == []


@pytest.mark.parametrize(
    ("peft", "code", "message", "label"),
    [
        ({"target_modules": ["q_porj"]}, "SG320", "no module `q_porj`", "did you mean `q_proj`?"),
        ({"target_modules": ["q_proj", "v_porj"]}, "SG321", "no module `v_porj`", "did you mean `v_proj`?"),
        (
            {"target_modules": ["c_attn"]},
            "SG320",
            "no module `c_attn`",
            "its linear layers: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
        ),
        (
            {"target_modules": ["layers.2.self_attn.q_proj"]},
            "SG320",
            "no module `layers.2.self_attn.q_proj`",
            "did you mean `layers.1.self_attn.q_proj`?",
        ),
        ({"target_modules": "q_proj"}, "SG320", "no module `q_proj`", "write [q_proj], or `.*q_proj`"),
        ({"target_modules": "zzz"}, "SG320", "no module `zzz`", "write a list of names"),
        ({"target_modules": "(q_proj"}, "SG320", "is not a regular expression", "missing )"),
        ({"modules_to_save": ["(?i)embed"]}, "SG320", "is not a regular expression", "global flags"),
        ({"target_modules": []}, "SG320", "no module is left", "name some"),
        (
            {"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]},
            "SG320",
            "no module is left",
            "excluded",
        ),
        (
            {"target_modules": ["lm_head"], "modules_to_save": ["lm_head"]},
            "SG320",
            "no module is left",
            "whole",
        ),
        ({"target_modules": ["q_proj"], "exclude_modules": ["lmhead"]}, "SG320", "`lmhead`", "`lm_head`"),
        ({"modules_to_save": ["embed_token", "x"]}, "SG320", "no module `x`", "its linear layers: "),
        (
            {"modules_to_save": ["embed_token"]},
            "SG320",
            "no module `embed_token`",
            "did you mean `embed_tokens`?",
        ),
        ({"trainable_token_indices": {"embed": [1]}}, "SG320", "no module `embed`", "`embed_tokens`"),
        (
            {"target_modules": ["q_proj"], "layers_to_transform": [0, 7]},
            "SG320",
            "no layer 7",
            "layers are 0 to 1",
        ),
        (
            {"target_modules": ["q_proj"], "layers_to_transform": 7},
            "SG320",
            "no layer 7",
            "layers are 0 to 1",
        ),
        (
            {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layer"},
            "SG320",
            "no list of layers `layer`",
            "did you mean `layers`?",
        ),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"v_proj": 4}},
            "SG320",
            "`v_proj` gets no adapter",
            "add it to target_modules",
        ),
        (
            {"target_modules": ["q_proj"], "alpha_pattern": {"q_pro": 4}},
            "SG320",
            "no module `q_pro`",
            "`q_proj`",
        ),
    ],
)
def test_names_that_are_not_there(llama, peft, code, message, label):
    found = findings(llama, peft)[-1]
    assert found.code == code
    assert message in found.message
    assert label in found.label


def test_the_place_of_a_name_is_its_own(llama):
    for peft, text in (
        ({"target_modules": ["q_proj", "v_porj"]}, '"v_porj"'),
        ({"target_modules": ["q_proj"], "rank_pattern": {"q_porj": 4}}, '"q_porj"'),
        ({"target_modules": ".*porj"}, '".*porj"'),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 12345]}, "12345"),
    ):
        (found,) = findings(llama, peft)
        assert marked(found, llama, peft) == text


def test_adapters_that_choose_otherwise_are_left_alone(llama):
    adaption = {"adapter_len": 4, "adapter_layers": 1, "target_modules": "zzz"}
    assert codes(llama, adaption, peft_type="ADAPTION_PROMPT") == []
    assert codes(llama, {"num_virtual_tokens": 4}, peft_type="PROMPT_TUNING") == []


@pytest.mark.parametrize("args", [{"key_mapping": {"a": "b"}}, {"gguf_file": "a.gguf"}])
def test_names_that_loading_changes_are_not_checked(llama, args):
    assert codes(llama, {"target_modules": ["zzz"]}, args=args) == []


def test_a_family_unknown_here_has_the_names_of_its_checkpoint(tmp_path):
    model = write_model(tmp_path / "m", LLAMA | {"model_type": "smollm3"})
    assert codes(model, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}) == []
    (found,) = findings(model, {"target_modules": ["q_porj"]})
    assert (found.code, found.label) == ("SG320", "did you mean `q_proj`?")


@pytest.mark.parametrize("change", ["renamed on loading", "saved without its prefix"])
def test_names_are_a_warning_where_the_checkpoint_may_have_others(tmp_path, change):
    kind = "granitemoe" if change == "renamed on loading" else "smollm3"
    weights = (
        WEIGHTS if kind == "granitemoe" else {name.removeprefix("model."): s for name, s in WEIGHTS.items()}
    )
    model = write_model(tmp_path / "m", LLAMA | {"model_type": kind}, weights)
    assert codes(model, {"target_modules": ["w1"]}) == ["SG321"]


def test_what_its_own_code_names_counts_when_it_is_trusted(tmp_path):
    weights = {"model.layers.0.attn.wqkv.weight": (4, 4)}
    model = write_model(tmp_path / "m", LLAMA | {"auto_map": {"AutoModelForCausalLM": "x.Y"}}, weights)
    assert codes(model, {"target_modules": ["q_proj"]}, args={"trust_remote_code": True}) == ["SG320"]
    assert codes(model, {"target_modules": ["wqkv"]}, args={"trust_remote_code": True}) == []


def test_experts_of_older_checkpoints_are_there_for_lora(tmp_path):
    model = write_model(tmp_path / "m", LLAMA | {"model_type": "mixtral"}, {})
    assert codes(model, {"target_modules": ["w1", "w2", "w3"]}) == []
    assert codes(model, {"target_modules": ["w1"]}, peft_type="LOHA") == ["SG320"]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama"),
        ("meta-llama/Llama-3.2-11B-Vision", ""),
        ("meta-llama/Llama-4-Scout-17B-16E", ""),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral"),
        ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", ""),
        ("mistralai/Mixtral-8x7B-v0.1", "mixtral"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", ""),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/Qwen3-30B-A3B", "qwen3_moe"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", ""),
        ("google/gemma-2b", "gemma"),
        ("google/codegemma-7b", "gemma"),
        ("google/gemma-2-9b-it", "gemma2"),
        ("google/gemma-3-1b-it", "gemma3_text"),
        ("google/gemma-3-27b-it", "gemma3"),
        ("google/gemma-3n-E4B-it", ""),
        ("google/recurrentgemma-2b", ""),
        ("microsoft/Phi-3-mini-4k-instruct", "phi3"),
        ("microsoft/phi-4", "phi3"),
        ("microsoft/Phi-3.5-MoE-instruct", ""),
        ("tiiuae/falcon-7b", "falcon"),
        ("tiiuae/Falcon3-7B-Base", ""),
        ("openai-community/gpt2", "gpt2"),
        ("EleutherAI/pythia-1.4b", "gpt_neox"),
        ("allenai/OLMo-2-1124-7B", "olmo2"),
        ("ibm-granite/granite-3.3-8b-instruct", "granite"),
        ("ibm-granite/granite-3.1-1b-a400m-instruct", ""),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek_v3"),
        ("deepseek-ai/DeepSeek-V2-Lite", "deepseek_v2"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "llama"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "qwen3"),
        ("models/base", ""),
        ("/local_resources/basemodel", ""),
    ],
)
def test_the_family_of_a_hub_id(name, family):
    assert guess_family(name) == family


def test_every_family_that_a_name_suggests_is_in_the_table():
    from silogen_compiler.rules.model_modules import FAMILY_NAMES  # noqa: PLC0415 - only here

    assert {family for _, family in FAMILY_NAMES} - {""} <= {*families()["families"]}


def test_a_model_that_is_not_here_gets_warnings_at_most():
    (found,) = findings("meta-llama/Llama-3.1-8B", {"target_modules": ["q_porj"]})
    assert (found.code, found.message) == ("SG321", "llama models have no module `q_porj`")
    assert found.label == "did you mean `q_proj`?"
    assert codes("meta-llama/Llama-3.1-8B", {"target_modules": ["q_proj"], "layers_to_transform": [99]}) == []
    assert codes("models/base", {"target_modules": ["zzz"]}) == []
    assert codes("Qwen/Qwen3-8B", {"target_modules": []}) == []


def test_a_model_that_is_not_here_costs_one_look(monkeypatch):
    looks = []
    monkeypatch.setattr(model_files, "_is_file", lambda path: bool(looks.append(path)))
    assert codes("models/base", {"target_modules": ["q_proj"]}) == []
    assert looks == ["models/base/config.json"]


def test_a_subfolder_counts(tmp_path):
    write_model(tmp_path / "sub")
    assert codes(str(tmp_path), {"target_modules": ["zzz"]}, args={"subfolder": "sub"}) == ["SG320"]


def test_wrong_values_elsewhere_are_no_crash(llama):
    for section in ("peft_conf", "run_conf", "sft_args", "training_args"):
        for wrong in (None, 3, {}, []):
            data = config(llama, {"target_modules": ["zzz"]}) | {section: wrong}
            layer = load_text("a.json", json.dumps(data))
            found, paths = validate(layer)
            check_model(Values(layer, 1, {}, paths, has_gaps=bool(found)))


# Sizes


@pytest.mark.parametrize(
    ("peft_type", "peft", "code", "words"),
    [
        ("BOFT", {"boft_block_size": 24}, "SG323", "`boft_block_size` 24 does not divide the 64 inputs"),
        ("BOFT", {"boft_block_size": 0, "boft_block_num": 5}, "SG323", "`boft_block_num` 5"),
        ("OFT", {"oft_block_size": 48}, "SG324", "`oft_block_size` 48 does not divide the 64 inputs"),
        ("VBLORA", {}, "SG323", "`vector_length` 256 does not divide the 64 inputs"),
        ("VBLORA", {"vector_length": 64}, "SG323", "the 32 outputs of `model.layers.0.self_attn.k_proj`"),
    ],
)
def test_sizes_that_do_not_divide(llama, peft_type, peft, code, words):
    (found,) = findings(llama, {"target_modules": "all-linear", **peft}, peft_type=peft_type)
    assert found.code == code
    assert words in found.message
    assert found.label == "write a divisor of 32"


@pytest.mark.parametrize(
    ("peft_type", "peft"),
    [
        ("BOFT", {}),
        ("OFT", {"oft_block_size": 0, "r": 8}),
        ("VBLORA", {"vector_length": 32}),
        ("VBLORA", {"target_modules": None}),
        ("LORA", {"r": 7}),
    ],
)
def test_sizes_that_divide_or_are_unknown(llama, peft_type, peft):
    assert codes(llama, {"target_modules": "all-linear", **peft}, peft_type=peft_type) == []
    assert codes("hub/llama", {"target_modules": "all-linear", **peft}, peft_type=peft_type) == []


def test_sizes_of_transposed_weights(tmp_path):
    weights = {"transformer.h.0.attn.c_attn.weight": (64, 192)}
    model = write_model(tmp_path / "m", {"model_type": "gpt2", "n_layer": 1}, weights)
    (found,) = findings(model, {"target_modules": ["c_attn"], "boft_block_size": 48}, peft_type="BOFT")
    assert "48 does not divide the 64 inputs" in found.message


# Number types, attention


def test_a_checkpoint_is_quantized_once(tmp_path):
    nf4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    model = write_model(tmp_path / "m", quantization_config=nf4)
    assert codes(model) == []
    assert codes(model, quant={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}) == []
    assert codes(model, quant={"load_in_4bit": True}) == ["SG322"]
    assert codes(model, quant={"load_in_8bit": True}) == ["SG322"]
    assert codes(model, peft_type="NO_PEFT") == ["SG306"]
    gptq = write_model(tmp_path / "g", quantization_config={"quant_method": "gptq", "bits": 4})
    (found,) = findings(gptq, quant={"load_in_4bit": True})
    assert (found.code, found.message) == ("SG322", "the checkpoint is quantized already, by gptq")
    assert codes(gptq) == []


@pytest.mark.parametrize(
    ("settings_", "args", "peft_type", "expected"),
    [
        ({"dtype": "float16"}, {}, "NO_PEFT", ["SG703"]),
        (
            {"dtype": None, "torch_dtype": "float16"},
            {},
            "NO_PEFT",
            [],
        ),  # null is a name too, and says nothing
        ({"dtype": "float16"}, {"dtype": "bfloat16"}, "NO_PEFT", []),
        ({"dtype": "float16"}, {}, "LORA", []),
        ({}, {"torch_dtype": "float16"}, "NO_PEFT", ["SG703"]),
    ],
)
def test_float16_weights_cannot_be_trained(tmp_path, settings_, args, peft_type, expected):
    assert codes(write_model(tmp_path / "m", **settings_), peft_type=peft_type, args=args) == expected


def test_the_number_type_of_the_first_weight(tmp_path):
    model = write_model(tmp_path / "m", {key: value for key, value in LLAMA.items() if key != "dtype"})
    assert read_model(model).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("settings_", "args", "training_args", "expected"),
    [
        ({}, {"dtype": "float32"}, {}, ["SG325"]),
        ({"dtype": "float32"}, {}, {}, ["SG325"]),
        ({"dtype": "float32"}, {}, {"bf16": True}, []),
        ({}, {}, {}, []),
        ({"head_dim": 256}, {}, {}, []),
        ({"head_dim": 512}, {}, {}, ["SG326"]),
        ({"hidden_size": 1600}, {}, {}, ["SG326"]),
    ],
)
def test_flash_attention(tmp_path, settings_, args, training_args, expected):
    model = write_model(tmp_path / "m", **settings_)
    flash = {"attn_implementation": "flash_attention_2", **args}
    assert codes(model, args=flash, training_args=training_args) == expected
    assert codes(model, args=args, training_args=training_args) == []


# Vocabulary and positions


def bpe(size, added=()):
    """Return a tokenizer.json as the tokenizers library orders it, with a token that is called merges."""
    vocabulary = {'"merges"': 0, "}": 1} | {f"t{i}": i for i in range(2, size)}
    tokens = [{"id": number, "content": f"<{number}>"} for number in added]
    return json.dumps({"added_tokens": tokens, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (bpe(100), 100),
        (bpe(100, [100, 117]), 118),
        (json.dumps(json.loads(bpe(90, [95])), indent=2), 96),
        (json.dumps({"model": {"type": "WordLevel", "vocab": {"b": 7, "a": 0}}}), 8),
        (json.dumps({"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b", 1.0]]}}), 2),
        (json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}}), None),
        (json.dumps({"model": 3}), None),
        ("[", None),
        ("", None),
    ],
)
def test_the_size_of_a_vocabulary(tmp_path, text, size):
    (tmp_path / "tokenizer.json").write_text(text)
    assert vocabulary_size(str(tmp_path)) == size


def test_the_size_of_a_real_vocabulary(tmp_path):
    from tokenizers import Tokenizer, models, trainers  # noqa: PLC0415 - only here

    for model, trainer in ((models.BPE(), trainers.BpeTrainer), (models.Unigram(), trainers.UnigramTrainer)):
        tokenizer = Tokenizer(model)
        options = {"vocab_size": 30, "show_progress": False, "special_tokens": ["<s>"]}
        tokenizer.train_from_iterator(['a "merges": [ } b', "vocab of some words"], trainer(**options))
        tokenizer.add_special_tokens(["<new>"])
        for pretty in (True, False):
            tokenizer.save(str(tmp_path / "tokenizer.json"), pretty)
            assert vocabulary_size(str(tmp_path)) == max(tokenizer.get_vocab().values()) + 1


def test_a_tokenizer_larger_than_the_model(llama, tmp_path):
    assert codes(llama) == []
    (tmp_path / "model" / "tokenizer.json").write_text(bpe(100))
    assert codes(llama) == []
    (tmp_path / "model" / "tokenizer_config.json").write_text(
        '{"added_tokens_decoder": {"100": {}, "x": {}}}'
    )
    (found,) = findings(llama)
    assert found.code == "SG327"
    assert found.message == "the tokenizer has ids up to 100, and the model has embeddings for 100 tokens"
    assert codes(llama, quant={"load_in_4bit": True}) == ["SG328"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.json").write_text(bpe(50))
    assert codes(llama, run_conf={"tokenizer": str(tmp_path / "other")}) == []
    assert codes(llama, run_conf={"tokenizer": "org/other"}) == []


def test_tokens_that_a_template_can_not_add(llama, tmp_path):
    chatty = {"template": "chat-ml"}
    assert codes(llama, method="dpo", **chatty) == []  # the tokenizer is elsewhere
    (tmp_path / "model" / "tokenizer.json").write_text(bpe(98))
    assert codes(llama, method="dpo", **chatty) == ["SG735"]
    assert codes(llama, **chatty) == []
    assert codes(llama, quant={"load_in_4bit": True}, **chatty) == []  # two rows to spare
    (tmp_path / "model" / "tokenizer.json").write_text(bpe(99))
    assert codes(llama, quant={"load_in_4bit": True}, **chatty) == ["SG716"]
    prompts = {"num_virtual_tokens": 4}
    assert codes(llama, prompts, peft_type="PROMPT_TUNING", **chatty) == ["SG716"]
    (tmp_path / "model" / "added_tokens.json").write_text('{"<|im_start|>": 100, "<|im_end|>": 101}')
    assert codes(llama, method="dpo", **chatty) == []


def test_special_tokens_out_of_range(tmp_path):
    assert codes(write_model(tmp_path / "a", eos_token_id=[1, 100])) == ["SG327"]
    assert codes(write_model(tmp_path / "b", bos_token_id=-1, eos_token_id=None)) == ["SG327"]
    assert codes(write_model(tmp_path / "c", eos_token_id="x", vocab_size="many")) == []


def test_more_tokens_than_positions(tmp_path):
    model = write_model(tmp_path / "m")
    assert codes(model, length=2048) == []
    assert codes(model, length=2049) == ["SG329"]
    assert codes(write_model(tmp_path / "n", alibi=True), length=2049) == []
    parts = {"model_type": "gemma3", "text_config": {"max_position_embeddings": 512}}
    assert codes(write_model(tmp_path / "p", parts, {})) == ["SG329"]


# Files


def test_facts_of_a_model(llama):
    model = read_model(llama)
    assert model.weights["model.layers.0.self_attn.k_proj.weight"] == Weight("BF16", (32, 64))
    assert model.parameters == 100 * 64 + 64 + 2 * (64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64)
    assert "model.layers.1.mlp" in model.modules
    assert model.number("head_dim", "hidden_size") == 64


def test_names_of_modules(tmp_path):
    weights = ["a.q.weight", "a.q.bias", "a.A_log", "b.weight.absmax", "bare"]
    model = read_model(write_model(tmp_path / "m", weights=dict.fromkeys(weights, (1,))))
    assert [*model.modules] == ["a.q", "a", "b"]


def write_shards(folder, *, missing=False):
    write_model(folder, weights={})
    places = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(WEIGHTS)}
    index = {"weight_map": places | {"escape": "../model.safetensors", "none": None}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for shard in ("model-1.safetensors", *([] if missing else ["model-2.safetensors"])):
        part = {name: shape for name, shape in WEIGHTS.items() if places[name] == shard}
        (folder / shard).write_bytes(header(part))
    return str(folder)


def test_shards(tmp_path):
    model = read_model(write_shards(tmp_path / "m"))
    single = read_model(write_model(tmp_path / "s"))
    assert {name: model.weights[name] for name in WEIGHTS} == single.weights
    assert model.parameters == single.parameters


def test_a_missing_shard_still_has_names(tmp_path):
    folder = write_shards(tmp_path / "m", missing=True)
    assert {*WEIGHTS} <= {*read_model(folder).weights}
    assert 0 < read_model(folder).parameters < read_model(write_model(tmp_path / "s")).parameters
    assert codes(folder, {"target_modules": ["q_proj"]}) == []
    assert codes(folder, {"target_modules": "all-linear"}, peft_type="VBLORA") == ["SG323"]


NAMES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
JUNK = (
    b"",
    b"{",
    b"[]",
    b"3",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a": %s}' % (b"9" * 5000),
    struct.pack("<Q", 2**63),
    struct.pack("<Q", 10**6) + b"{",
    header(WEIGHTS)[:-9],
    struct.pack("<Q", 2) + b"[]",
    struct.pack("<Q", 34) + b'{"a": 3, "b": {"dtype": 3, "shape"',
    header({"a.weight": "x", "b.weight": [None], "c.weight": []}),
    b'{"weight_map": 3}',
    b'{"weight_map": {"a": 3, "b": "x"}}',
    b'{"model_type": "llama", "num_hidden_layers": 1000000000000}',
    b'{"model_type": [], "text_config": 3, "quantization_config": 4, "vocab_size": "x", "dtype": 3}',
    b'{"added_tokens": 3, "added_tokens_decoder": {"x": 1}, "model": {"vocab": {"a": "b"}, "merges": []}}',
    b'{"added_tokens": [3, {"id": "x"}], "model": {"vocab": [1], "merges": [}}',
)


@pytest.mark.parametrize("junk", [*JUNK, None], ids=range(len(JUNK) + 1))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sharded", [True, False])
def test_broken_files_are_no_finding_and_no_crash(tmp_path, name, junk, sharded):
    folder = (write_shards if sharded else write_model)(tmp_path / "m")
    path = tmp_path / "m" / name
    path.unlink(missing_ok=True)
    path.mkdir() if junk is None else path.write_bytes(junk)
    kwargs = {"target_modules": ["q_proj"], "boft_block_size": 8}
    args = {"attn_implementation": "flash_attention_2"}
    assert codes(folder, kwargs, peft_type="BOFT", args=args) == []
    read_model(folder)  # None where config.json is a folder
    vocabulary_size(folder)


def test_special_files_are_not_opened(tmp_path):
    write_model(tmp_path / "m", weights={})
    os.mkfifo(tmp_path / "m" / "model.safetensors")
    assert read_model(str(tmp_path / "m")).weights == {}
    assert read_model("a\0b") is None
    assert read_model("") is None


def test_large_files_are_left_alone(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "m")
    monkeypatch.setattr(model_files, "MAX_HEADER", 100)
    assert read_model(folder).weights == {}
    monkeypatch.setattr(model_files, "MAX_CONFIG", 10)
    assert read_model(folder).config == {}


# Against the real libraries

LEAVES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
TARGETS = [
    *LEAVES,
    "self_attn.q_proj",
    "mlp.up_proj",
    "layers.1.mlp.up_proj",
    "layers.2.mlp.up_proj",
    "model.layers.0.self_attn.q_proj",
    "embed_tokens",
    "model.embed_tokens",
    "q_porj",
    "proj",
    "q",
    "_proj",
    "layers.q_proj",
    "mlp.q_proj",
    ".q_proj",
    "Q_proj",
    "c_attn",
    "w1",
]
EXPRESSIONS = [
    r".*q_proj",
    r"q_proj",
    r".*\.(q|v)_proj",
    r"model\.layers\.[01]\.mlp\.(up|down)_proj",
    r"model\.layers\.5\..*proj",
    r"(?i).*Q_PROJ",
    "all-linear",
    "all_linear",
]


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory):
    """Return a folder with a real tiny Llama, and a function that builds the model."""
    import torch  # noqa: PLC0415 - only here
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - only here

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 32}
    settings_ = LlamaConfig(**sizes, num_hidden_layers=2, num_key_value_heads=1)
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(settings_).save_pretrained(folder)

    def build():
        with torch.device("meta"):
            return LlamaForCausalLM(settings_)

    return str(folder), build


def refuses(model, kwargs):
    """Tell whether peft finds no module for an adapter."""
    import peft  # noqa: PLC0415 - only here
    from peft.tuners.tuners_utils import NoMatchingPeftModuleError  # noqa: PLC0415 - only here

    try:
        peft.get_peft_model(model, peft.LoraConfig(**kwargs))
    except NoMatchingPeftModuleError:
        return True
    return False


some = {"max_size": 3, "unique": True}
adapters = st.fixed_dictionaries(
    {"target_modules": st.lists(st.sampled_from(TARGETS), **some) | st.sampled_from(EXPRESSIONS)},
    optional={
        "exclude_modules": st.lists(st.sampled_from(LEAVES), min_size=1, **some)
        | st.just(r".*layers\.0\..*"),
        "modules_to_save": st.lists(st.sampled_from(["lm_head", "q_proj", "norm"]), min_size=1, **some),
        "layers_to_transform": st.sampled_from([0, 1, [0], [0, 1], []]),
    },
)


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(adapters)
def test_an_error_exactly_where_peft_finds_no_module(tiny_llama, kwargs):
    folder, build = tiny_llama
    if isinstance(kwargs["target_modules"], str):
        kwargs.pop("layers_to_transform", None)  # LoraConfig refuses the two together
    found = findings(folder, kwargs)
    assert ("SG320" in [finding.code for finding in found]) == refuses(build(), kwargs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_a_warning_exactly_where_peft_passes_over_a_name(tiny_llama, name):
    folder, build = tiny_llama
    passed_over = "SG321" in codes(folder, {"target_modules": ["o_proj", name]})
    assert passed_over == refuses(build(), {"target_modules": [name]})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [2, 3, 8, 12, 24, 64])
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.code == "SG323"], ids=lambda b: b.key)
def test_an_error_exactly_where_peft_cannot_cut(tiny_llama, block, size):
    import peft  # noqa: PLC0415 - only here

    folder, build = tiny_llama
    kwargs = {"target_modules": ["q_proj", "k_proj", "down_proj"], block.key: size}
    kwargs |= {"boft_block_size": 0} if block.key == "boft_block_num" else {}
    kwargs |= {"r": 64 * size} if block.peft_type == "GRALORA" else {}
    layer = load_text("a.json", json.dumps(config(folder, kwargs, peft_type=block.peft_type)))
    values = Values(layer, 1, {})
    values.data["peft_conf"] = layer.data["peft_conf"]  # also of types that the schema does not know yet
    found = [finding.code for finding in check_model(values)]
    try:
        peft.get_peft_model(build(), peft.PEFT_TYPE_TO_CONFIG_MAPPING[block.peft_type](**kwargs))
    except ValueError:
        assert found == ["SG323"]
    else:
        assert found == []


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_the_table_has_the_modules_of_the_real_models(family):
    import torch  # noqa: PLC0415 - only here
    from silogen_runtime.harvest_families import harvest_family  # noqa: PLC0415 - only here

    assert torch
    assert harvest_family(family) == families()["families"][family]
