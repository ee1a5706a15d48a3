"""Learning from preferences: the losses of plain TRL, resumed to the same weights, and what is refused."""

from __future__ import annotations

import json

import pytest
import trl
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from safetensors.torch import load_file
from silogen_compiler.chat_templates import chat_template
from silogen_compiler.diagnostics import Refused
from silogen_runtime.examples import Preference
from silogen_runtime.preferences import encode_pairs, render_pairs
from tiny import LORA, PAIRS, conversation, losses, preference, resolved_preferences
from transformers import AutoModelForCausalLM, AutoTokenizer

FOUR_BITS = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}
SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
LORA = {**LORA, "kwargs": {**LORA["kwargs"], "lora_dropout": 0.0}}

# Ends with the end token, so that TRL's own tokenizing gives the same tokens.
TEMPLATE = (
    "{{- bos_token }}{%- for m in messages %}{{ '<' + m['role'] + '>\n' }}"
    "{{ m['content'] + eos_token }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<assistant>\n' }}{% endif %}"
)
OWN = {"name": "own", "template": TEMPLATE, "added_tokens": [], "assistant_end": None}


@pytest.fixture
def resolve(tmp_path, byte_level_model):
    def build(*, model=byte_level_model, **changes):
        return resolved_preferences(tmp_path, model=model, **changes)

    return build


def metrics(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def plain_trl(model: str, folder, peft, **args) -> list[float]:
    """Return the losses of a run written by hand, which tokenizes by itself."""
    names = {"prompt_messages": "prompt", "chosen_messages": "chosen", "rejected_messages": "rejected"}
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template, tokenizer.pad_token = TEMPLATE, tokenizer.eos_token
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=trl.DPOConfig(output_dir=str(folder / "plain"), **args),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{names[key]: value for key, value in row.items()} for row in PAIRS]),
        peft_config=peft and LoraConfig(**peft["kwargs"]),
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("precompute", [False, True], ids=["asked-each-step", "precomputed"])
@pytest.mark.parametrize("peft", [None, LORA], ids=["full", "lora"])
def test_the_losses_are_those_of_plain_trl(resolve, run, tmp_path, bos_model, peft, precompute):  # noqa: PLR0913, PLR0917
    changes = {"precompute_ref_log_probs": precompute, "max_length": 48}  # some answers are cut
    config = resolve(model=bos_model, peft=peft, args=changes, tokenizer={"chat_template": OWN})
    run(config)
    args = {key: value for key, value in config["trainer"]["args"].items() if key != "output_dir"}
    expected = plain_trl(bos_model, tmp_path, peft, **args)
    assert losses(tmp_path / "out") == pytest.approx(expected, abs=1e-5)
    assert expected[0] == pytest.approx(0.6931, abs=1e-4)
    assert expected[-1] < 0.5


@pytest.mark.parametrize(
    ("peft", "quantization", "args"),
    [
        (None, None, {}),
        (None, None, {"precompute_ref_log_probs": True}),
        (LORA, None, {"disable_dropout": False}),
        (LORA, FOUR_BITS, {}),
        (LORA, {"load_in_8bit": True}, {}),
    ],
    ids=["full", "precomputed", "lora", "4-bit", "8-bit"],
)
def test_a_resumed_run_ends_in_the_same_weights(resolve, run, tmp_path, peft, quantization, args):  # noqa: PLR0913, PLR0917
    quantization = quantization and {"class": "BitsAndBytesConfig", "kwargs": quantization}
    config = resolve(peft=peft, quantization=quantization, args={**SAVING, **args})
    whole, _ = run(config)
    expected, curve = weights(whole.final_checkpoint), losses(tmp_path / "out")
    for left in ("checkpoint-6", "checkpoint-final"):
        (tmp_path / "out" / left).rename(tmp_path / left)
    config["run"]["resume_from_checkpoint"] = True
    rest, screen = run(config)
    assert "6, from 4 on" in screen
    assert weights(rest.final_checkpoint) == expected
    assert losses(tmp_path / "out") == curve


def weights(folder) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.glob("*.safetensors")))


def test_an_earlier_adapter_is_what_a_new_one_is_compared_with(resolve, run, tmp_path):
    first, _ = run(resolve(peft=LORA))
    adapter = first.final_checkpoint.rename(tmp_path / "adapter")
    config = resolve(peft={"pretrained": str(adapter)}, args=SAVING)
    second, screen = run(config)
    assert losses(tmp_path / "out")[0] == pytest.approx(0.6931, abs=1e-4)
    assert "parameters  14,336 of" in screen
    assert sorted(path.name for path in second.final_checkpoint.glob("*/")) == []
    assert AutoPeftModelForCausalLM.from_pretrained(second.final_checkpoint)
    expected = load_file(second.final_checkpoint / "adapter_model.safetensors")
    for left in ("checkpoint-6", "checkpoint-final"):
        (tmp_path / "out" / left).rename(tmp_path / left)
    config["run"]["resume_from_checkpoint"] = True
    rest, _ = run(config)
    resumed = load_file(rest.final_checkpoint / "adapter_model.safetensors")
    assert all((resumed[name] == tensor).all() for name, tensor in expected.items())


def test_validation_and_the_metrics_of_dpo_are_recorded(resolve, run, tmp_path):
    split = {"type": "AUTO_SPLIT", "ratio": 0.25, "seed": 1}
    outcome, screen = run(
        resolve(peft=LORA, data={"validation": split}, args={"eval_strategy": "steps", "eval_steps": 4})
    )
    assert len(outcome.validation_losses) == 2
    names = ("rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")
    lines = metrics(tmp_path / "out")
    assert all(set(names) < set(line) for line in lines if "loss" in line)
    assert all({f"eval_{name}" for name in names} < set(line) for line in lines if "eval_loss" in line)
    assert "validation  4 examples" in screen
    assert "% right  margin " in screen


def test_the_summary_shows_both_answers(resolve, run):
    _, screen = run(resolve(args={"max_steps": 1}))
    assert "the better answer is in [[ ]], the worse in (( )):" in screen
    assert (
        "  ### assistant:\n  [[The capital of Finland is Helsinki.<|endoftext|>]]\n  ((Five.<|endoftext|>))\n"
    ) in "\n".join(line.rstrip() for line in screen.splitlines())


def test_a_template_that_would_add_tokens_is_refused(resolve, run, bos_model):
    with pytest.raises(
        Refused, match=r"SG735: template `chat-ml` needs .*: `<\|im_start\|>`, `<\|im_end\|>`"
    ):
        run(resolve(model=bos_model, tokenizer={"chat_template": chat_template("chat-ml")}))


@pytest.mark.parametrize(
    "args",
    [
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"loss_type": ["ipo"], "truncation_mode": "keep_end", "max_length": 40},
        {"use_weighting": True},
    ],
    ids=lambda args: next(iter(args)),
)
def test_other_losses_and_cuts_fall_too(resolve, run, tmp_path, args):
    run(resolve(peft=LORA, args={**args, "learning_rate": 0.0003}))
    curve = losses(tmp_path / "out")
    assert len(curve) == 8
    assert curve[-1] < curve[0]


def test_a_moved_reference_is_lost_on_resuming(resolve, run):
    config = resolve(args={**SAVING, "max_steps": 2, "sync_ref_model": True, "ref_model_sync_steps": 1})
    assert run(config)[0].warnings == []
    config["trainer"]["args"]["max_steps"] = 3
    config["run"]["resume_from_checkpoint"] = True
    assert [finding.code for finding in run(config)[0].warnings] == ["SG737"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chosen_messages": []}, "SG603: `chosen_messages` must not be empty"),
        (
            {"rejected_messages": [{"role": "user", "content": "x"}]},
            "SG613: `rejected_messages` does not begin",
        ),
        ({"messages": []}, "SG603: `messages` is not a known key"),
    ],
)
def test_a_line_that_is_no_preference_is_named(resolve, run, change, said):
    with pytest.raises(Refused, match=said) as refused:
        run(resolve(lines=[PAIRS[0], {**PAIRS[1], **change}]))
    assert refused.value.diagnostics[0].span.line == 2


def test_equal_answers_are_warned_of(resolve, run):
    outcome, _ = run(resolve(lines=[*PAIRS, preference("x", "y", "y")], args={"max_steps": 1}))
    assert [(finding.code, finding.span.line) for finding in outcome.warnings] == [("SG614", 17)]


def test_a_prompt_that_leaves_no_room_is_left_out(resolve, run):
    lines = [*PAIRS, preference("word " * 100, "a", "b")]
    args = {"max_steps": 1, "max_length": 100}
    _, screen = run(resolve(lines=lines, args=args, data={"max_length": 100}))
    assert "16 examples (1 too long: left out)" in screen


def encoded(chat, row: dict, **limits):
    source = Preference(row["prompt_messages"], row["chosen_messages"], row["rejected_messages"], "x", 1)
    (pair,), findings = encode_pairs(
        chat, [source], **{"max_length": None, "max_prompt_length": None, **limits}
    )
    return source, pair, findings


def test_an_end_token_in_an_earlier_answer_of_the_prompt_is_warned_of(load_chat):
    chat = load_chat("byte-level", "chat-ml")

    def told(earlier: str) -> list[str]:
        row = preference("And one more?", "Six.", "Seven.")
        row["prompt_messages"] = [*conversation("Add two.", earlier)["messages"], *row["prompt_messages"]]
        return [f"{finding.code}: {finding.message}" for finding in encoded(chat, row)[2]]

    assert told("Five.") == []
    assert told("Five<|im_end|>.") == [
        "SG621: a message of `assistant` holds `<|im_end|>`, which is read as that special token"
    ]


@pytest.mark.parametrize("model", ["byte-level", "bos"])
@pytest.mark.parametrize("template", ["chat-ml", "poro", "mistral-with-system", "simplified-llama31"])
def test_a_pair_has_one_bos_and_answers_end_with_one_end_token(load_chat, model, template):
    chat = load_chat(model, template)
    tokenizer = chat.tokenizer
    for row in PAIRS[:4]:
        source, pair, findings = encoded(chat, row)
        (text,) = render_pairs(chat, [source])
        assert findings == []
        end = tokenizer.convert_tokens_to_ids(chat.assistant_end)
        for answer, side in ((pair.chosen_ids, text.chosen), (pair.rejected_ids, text.rejected)):
            ids = [*pair.prompt_ids, *answer]
            assert ids == tokenizer(text.prompt + side, add_special_tokens=False).input_ids
            assert ids.count(tokenizer.bos_token_id) == chat.uses_bos
            assert list(answer).index(end) == len(answer) - 1


def test_a_long_prompt_keeps_its_bos_and_its_end(load_chat):
    chat = load_chat("bos", "poro")
    row = preference("What is the capital of Finland?" * 9, "a", "b")
    _, whole, _ = encoded(chat, row)
    _, cut, _ = encoded(chat, row, max_prompt_length=20)
    assert len(cut.prompt_ids) == 20
    assert [*cut.prompt_ids] == [whole.prompt_ids[0], *whole.prompt_ids[-19:]]
    assert [*cut.chosen_ids] == [*whole.chosen_ids]


def test_the_first_character_of_an_answer_may_join_the_prompt(load_chat):
    chat = load_chat("byte-level", "keep-original")
    tokenizer = chat.tokenizer
    own = tokenizer.chat_template
    try:
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m.content }}"
            "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        )
        _, pair, _ = encoded(chat, preference("The capital of Finl", "and", "x"))
    finally:
        tokenizer.chat_template = own
    whole = tokenizer("The capital of Finland<|endoftext|>").input_ids
    assert [*pair.prompt_ids, *pair.chosen_ids] == whole
    assert tokenizer.decode(pair.rejected_ids).endswith("x<|endoftext|>")
    assert len(pair.prompt_ids) < len(tokenizer("The capital of Finl").input_ids) + 1
