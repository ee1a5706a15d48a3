"""What `silogen explain` says about a key, alone and in a config, and the table of all keys."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from paths import CASES
from silogen_compiler.cli import silogen
from silogen_compiler.commands.compile import compile_command
from silogen_compiler.explain.table import explain_table
from silogen_compiler.load import dotted
from silogen_compiler.pipeline import compile_file
from silogen_compiler.targets import packages_of_targets

VALID = CASES / "valid"
TARGETS = list(packages_of_targets())


def run(*args):
    return CliRunner().invoke(silogen, [*map(str, args)])


def explain(*args):
    result = run("explain", *args)
    assert result.exit_code == 0, result.output
    return result.output


def landings(output, target):
    """Return the lines about one target."""
    lines = output.partition("It lands in:")[2].splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"  {target}"))
    texts = [lines[start].removeprefix(f"  {target}").strip()]
    for line in lines[start + 1 :]:
        if not line.startswith("    "):
            break
        texts.append(line.strip())
    return texts


def test_a_bare_name_is_found():
    assert explain("learning_rate") == explain("training_args.learning_rate")


def test_the_name_that_others_use_is_found():
    assert explain("lr").startswith("training_args.learning_rate")


def test_an_ambiguous_name_lists_its_keys():
    result = run("explain", "seed")
    assert result.exit_code == 2
    assert "  training_args.seed\n" in result.output
    assert "  data_conf.training_data.seed\n" in result.output


def test_a_name_is_clear_where_the_config_has_one_key_of_it():
    assert run("explain", "path").exit_code == 2
    output = explain("path", VALID / "qlora.yaml")
    assert "data/train.jsonl" in output


def test_an_ambiguous_name_in_a_config():
    result = run("explain", "type", VALID / "qlora.yaml")
    assert result.exit_code == 2
    assert "  data_conf.validation_data.type\n" in result.output


def test_values_of_a_definition_elsewhere():
    assert "chat-ml" in explain("chat_template_name")


def test_a_written_value_with_its_place_and_landings():
    output = explain("training_args.learning_rate", VALID / "qlora.yaml")
    assert "value   2.0e-05" in output
    assert re.search(r"origin  .*qlora\.yaml:9:18\n", output)
    for target in TARGETS:
        assert landings(output, target) == ["trainer.args.learning_rate = 2.0e-05 (SFTConfig)"]


def test_only_the_definition_that_the_config_uses():
    assert "for DPO" not in explain("learning_rate", VALID / "qlora.yaml")
    assert "for DPO" in explain("learning_rate", VALID / "dpo.yaml")


def test_a_rule_with_its_arithmetic():
    output = explain("learning_rate", VALID / "learning-rate-scaling.yaml")
    assert "rule    learning_rate\n" in output
    assert re.search(r"origin  2e-05 \(.*:10:18\) × 0\.5 \(.*:21:18\) × sqrt\(800\)", output)


def test_a_key_that_a_rule_reads_shows_what_the_rule_sets():
    output = explain("total_train_batch_size", VALID / "qlora.yaml", "--world-size", "4")
    assert "trainer.args.gradient_accumulation_steps = 1 (SFTConfig), by the rule batch_sizes" in landings(
        output, TARGETS[0]
    )


def test_an_older_name_leads_to_the_key_that_replaced_it():
    assert "replaced by  warmup_steps" in explain("warmup_ratio")
    output = explain("warmup_ratio", VALID / "older-names-for-hf-2025.11.yaml")
    assert "It counts as `training_args.warmup_steps`" in output
    assert any(text.startswith("trainer.args.warmup_ratio = 0.") for text in landings(output, "hf-2025.11"))
    assert landings(output, "hf-2026.11")[0].startswith("trainer.args.warmup_steps = 0.")


def test_an_argument_leads_to_its_key():
    output = explain("trainer.args.max_length", VALID / "qlora.yaml")
    assert output.startswith("`trainer.args.max_length` comes from `sft_args.max_seq_length`.\n")
    assert "trainer.args.max_seq_length = 1024 (SFTConfig)" in landings(output, "silogen-engine-0.1")


def test_an_argument_of_another_target_leads_to_its_key():
    output = explain("trainer.args.group_by_length", VALID / "qlora.yaml", "--target", "hf-2026.11")
    assert output.startswith(
        "`trainer.args.group_by_length` comes from `training_args.train_sampling_strategy`."
    )


def test_an_argument_without_a_key():
    output = explain("trainer.args.dataset_kwargs", VALID / "qlora.yaml")
    assert "comes from no key" in output
    assert "silogen prepares the data" in output


@pytest.mark.parametrize(
    ("key", "target", "why"),
    [
        ("activation_checkpointing", "hf-2025.11", "SFTConfig of hf-2025.11 has no"),
        ("low_cpu_mem_usage", "hf-2026.11", "weights are always loaded without a second copy"),
        ("peft_type", "hf-2026.11", "it only steers"),
        ("quantization_type", "hf-2026.11", "nothing is quantized"),
    ],
)
def test_why_a_value_has_no_argument(key, target, why):
    (text,) = landings(explain(key, VALID / "lora.yaml"), target)
    assert text.startswith("none: ")
    assert why in text


def test_a_target_that_the_config_does_not_compile_for():
    config = VALID / "paged-attention.yaml"
    broken = [name for name in TARGETS if compile_file(str(config), target=name).resolved is None]
    output = explain("attn_implementation", config)
    for target in broken:
        assert "does not compile for it: SG5" in landings(output, target)[0]
    assert len(broken) < len(TARGETS)


def test_a_config_with_mistakes_shows_them():
    result = run("explain", "learning_rate", CASES / "invalid" / "misspelled-key.yaml")
    assert result.exit_code == 1
    assert "SG201" in result.output


def test_overlays_and_settings_count():
    output = explain("learning_rate", VALID / "qlora.yaml", "--set", "training_args.learning_rate=1e-3")
    assert "origin  --set:1:29" in output
    assert "value   0.001" in output


def test_secrets_are_never_shown():
    output = explain("run_conf.model_args.token", VALID / "secrets.yaml")
    output += explain("hub_token", VALID / "secrets.yaml") + explain("tracking", VALID / "secrets.yaml")
    output += run("compile", VALID / "secrets.yaml", "--explain").output
    assert "${env:HF_TOKEN}" in output
    assert "hf_abcdefgh" not in output
    assert "secret@" not in output


def test_the_table_holds_every_key_and_every_argument():
    compiled = compile_file(str(VALID / "every-section.yaml"))
    text = explain_table(compiled)
    assert [dotted(at) for at, origin in compiled.origins.items() if dotted(at) not in text] == []
    keys = {line.split()[0] for line in text.splitlines() if line.startswith("  ")}
    names = {dotted(path[1:]) or dotted(path) for path in compiled.config.origins}
    assert names <= keys


def test_the_table_stands_in_place_of_the_resolved_config(tmp_path):
    output = tmp_path / "table.txt"
    args = [str(VALID / "qlora.yaml"), "--explain"]
    printed = CliRunner().invoke(compile_command, args)
    assert printed.exit_code == 0
    assert re.search(
        r"^  learning_rate +2\.0e-05 +trainer\.args\.learning_rate +\S*qlora\.yaml:9:18$",
        printed.output,
        re.MULTILINE,
    )
    assert "\033" not in printed.output
    assert CliRunner().invoke(compile_command, [*args, "-o", str(output)]).exit_code == 0
    assert output.read_text("utf-8") == printed.output


def test_a_terminal_gets_lines_that_fit_and_defaults_dimmed():
    text = explain_table(compile_file(str(VALID / "qlora.yaml")), width=120, color=True)
    plain = re.sub("\033\\[\\d+m", "", text)
    assert max(map(len, plain.splitlines())) <= 120
    assert re.search("^\033\\[2m  max_steps .*default\033\\[0m$", text, re.MULTILINE)
    assert re.search("^  learning_rate ", text, re.MULTILINE)


def test_a_section_lists_its_values():
    output = explain("training_args", VALID / "qlora.yaml")
    assert re.search(
        r"^  training_args\.learning_rate +2\.0e-05  # .*qlora\.yaml:9:18$", output, re.MULTILINE
    )
    assert "It lands in" not in output


@pytest.mark.parametrize("name", ["lerning_rate", "training_args.lerning_rate"])
@pytest.mark.parametrize("configs", [(), (VALID / "qlora.yaml",)])
def test_a_near_name(name, configs):
    result = run("explain", name, *configs)
    assert result.exit_code == 2
    assert "did you mean `learning_rate`?" in result.stderr
