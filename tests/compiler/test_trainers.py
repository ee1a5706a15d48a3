"""What silogen says about losses and adapters, the real trainers do: each row trains a tiny model."""

from __future__ import annotations

import gc

import datasets
import peft
import pytest
import tokenizers
import torch
import transformers
import trl
from silogen_compiler.lower.dpo import NO_WEIGHTING, ONLY_REVERSE_KL, SMOOTHED
from silogen_compiler.lower.unused import ADDED_LOSSES, UNUSED
from silogen_compiler.pipeline import compile_data
from silogen_compiler.rules.dpo import BY_LENGTH
from silogen_compiler.schema import bundle

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "<pad>", "<eos>", "<unk>"]
TOKENS = datasets.Dataset.from_list([{"input_ids": [0, 1, 2, 3], "labels": [0, 1, 2, 3]}] * 8)
PAIRS = datasets.Dataset.from_list(
    [{"prompt": "a b", "chosen": " c d", "rejected": " e"}, {"prompt": "a", "chosen": " h", "rejected": " c"}]
    * 4
)
LOSSES = bundle()["$defs"]["DPOTrainingArguments"]["properties"]["loss_type"]["anyOf"][0]["enum"]
LOSSES = [name for name in LOSSES if name != "aot_pair"]  # has another name in TRL 1


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Yield a folder with a model of two heads and a tokenizer of eleven words."""
    folder = tmp_path_factory.mktemp("base")
    words = tokenizers.models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(WORDS), **shape)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    gc.freeze()  # each training collects garbage; what is there before is none, and takes most of the time
    yield str(folder)
    gc.unfreeze()


def train(kind, base, data, adapter=None, **args):
    """Train for three steps; return the losses."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    fixed = {"max_steps": 3, "report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True}
    fixed |= {"save_strategy": "no", "learning_rate": 0.1, "logging_steps": 1, "output_dir": f"{base}/run"}
    config = getattr(trl, f"{kind}Config")(**fixed, gradient_checkpointing=False, **args)
    trainer = getattr(trl, f"{kind}Trainer")(
        model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapter
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# What UNUSED holds has no effect.

TARGETS = {"target_modules": ["q_proj", "v_proj"]}
NEEDED = {
    "ADALORA": {"total_step": 3, "tfinal": 1, **TARGETS},
    "ADAMSS": {"init_warmup": 0, "final_warmup": 2, "mask_interval": 1, "asa_target_subspaces": 1, **TARGETS},
    "LORA": {"r": 2, **TARGETS},
    "OSF": TARGETS,
    "SHADOW": {},
}
# A value that would change the training if it were read.
OTHER = {"alpha_pattern": {"q_proj": 64}, "megatron_config": {"a": 1}, "target_svd_config": {"a": 1}}
OTHER |= {"r": 2, "megatron_core": "a", "monteclora_config.dirichlet_prior": 5}


def value_of(row):
    if isinstance(row.idle, bool):
        return not row.idle
    return OTHER.get(row.key, {} if row.idle is None else 5)


@pytest.mark.parametrize("row", [*ADDED_LOSSES, *UNUSED], ids=lambda row: f"{row.peft_type}-{row.key}")
def test_what_is_said_to_be_unused_is(row, base):
    build = peft.PEFT_TYPE_TO_CONFIG_MAPPING[row.peft_type]
    key, _, inner = row.key.partition(".")
    value = value_of(row)
    without, with_it = ({}, {key: value}) if not inner else ({key: {}}, {key: {inner: value}})
    held = [
        train("SFT", base, TOKENS, build(task_type="CAUSAL_LM", **NEEDED[row.peft_type] | kwargs))
        for kwargs in (without, with_it)
    ]
    assert held[0] == held[1]


def test_no_trainer_cuts_ranks(base):
    cut = {"init_r": 4, "target_r": 1, **NEEDED["ADALORA"]}
    losses = [
        train("SFT", base, TOKENS, peft.AdaLoraConfig(task_type="CAUSAL_LM", **cut | {"target_r": rank}))
        for rank in (1, 4)
    ]
    assert losses[0] == losses[1]


# What a loss refuses, TRL refuses.


def fails(base, **args):
    try:
        train("DPO", base, PAIRS, **args)
    except (ValueError, NotImplementedError, RuntimeError):
        return True
    return False


def smoothing(loss):
    return 0.1 if loss == "exo_pair" else 0.0


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_with_divergences(loss, base):
    args = {"loss_type": [loss], "label_smoothing": smoothing(loss), "f_divergence_type": "js_divergence"}
    assert fails(base, **args) is (loss in ONLY_REVERSE_KL)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_with_weights_of_pairs(loss, base):
    args = {"loss_type": [loss], "label_smoothing": smoothing(loss), "use_weighting": True}
    assert fails(base, **args) is (loss in NO_WEIGHTING)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_that_read_smoothing(loss, base):
    one, other = (train("DPO", base, PAIRS, loss_type=[loss], label_smoothing=part) for part in (0.1, 0.3))
    assert (one != other) is (loss in SMOOTHED)


def test_exo_pair_without_smoothing(base):
    assert fails(base, loss_type=["exo_pair", "sigmoid"])


@pytest.mark.parametrize("strategy", ["random", "sequential", *BY_LENGTH])
def test_order_of_pairs(strategy, base):
    assert fails(base, train_sampling_strategy=strategy) is (strategy in BY_LENGTH)


def test_reference_models_that_cannot_move(base):
    adapter = peft.LoraConfig(task_type="CAUSAL_LM", **TARGETS)
    assert fails(base, sync_ref_model=True, precompute_ref_log_probs=True)
    assert fails(base, sync_ref_model=True, adapter=adapter)
    assert not fails(base, sync_ref_model=True)


def test_weights_of_losses(base):
    assert fails(base, loss_type=["sigmoid", "sft"], loss_weights=[1.0])


# What the lowering makes of smoothing trains alike.


def test_a_smoothed_sigmoid_among_losses():
    compiled = compile_data(
        {
            "method": "dpo",
            "data_conf": {
                "training_data": {"type": "CONCATENATION", "datasets": [{"path": "a.jsonl"}]},
                "validation_data": {"type": "NONE"},
            },
            "training_args": {"loss_type": ["sigmoid", "sft"], "label_smoothing": 0.1},
            "batchsize_conf": {"total_train_batch_size": 1, "max_per_device_train_batch_size": 1},
            "peft_conf": {"peft_type": "NO_PEFT"},
            "run_conf": {"model": "models/base"},
        },
        environment={},
        target="hf-2026.11",
    )
    args = compiled.resolved["trainer"]["args"]
    assert args["loss_type"] == ["robust", "sft"]
    score = torch.tensor([0.7, -0.2])
    log = torch.nn.functional.logsigmoid
    part = args["label_smoothing"]
    robust = -((1 - part) * log(score) - part * log(-score)) / (1 - 2 * part)
    assert torch.allclose(robust, -0.9 * log(score) - 0.1 * log(-score))
