"""The formats of `silogen compile`: they load back to the same, or their own tools read them."""

from __future__ import annotations

import ast
import copy
import json
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from cases import compile_case, examples, inputs
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from silogen_compiler.commands.compile import compile_command
from silogen_compiler.diagnostics import Refused
from silogen_compiler.emit import FORMATS, digest
from silogen_compiler.load import load_text
from silogen_compiler.pipeline import compile_data
from test_properties import ANY, mappings_of

VALID = {**inputs("valid"), **examples()}
CASES = ROOT / "tests" / "cases" / "valid"
SUFFIXES = {"yaml": "yaml", "json": "json", "toml": "toml", "python": "py"}
BASE = json.loads((CASES / "json.json").read_text())


def silogen_compile(*args, **kwargs):
    return CliRunner().invoke(compile_command, [str(arg) for arg in args], **kwargs)


def compile_with(**changes):
    """Return a resolved config, and origins, of a config with changed sections."""
    config = {key: {**BASE[key], **changes.get(key, {})} for key in BASE if isinstance(BASE[key], dict)}
    compiled = compile_data(config, environment={}, world_size=2)
    assert compiled.resolved is not None, compiled.diagnostics
    return copy.deepcopy(compiled.resolved), compiled.origins


def codes(format_name, resolved, words=("run.yaml",)):
    """Return the codes with which a format refuses a config."""
    with pytest.raises(Refused) as refused:
        FORMATS[format_name](resolved, {}, words)
    return [diagnostic.code for diagnostic in refused.value.diagnostics]


# Round trips.


@pytest.mark.parametrize("format_name", SUFFIXES)
@pytest.mark.parametrize("name", VALID)
def test_every_case_loads_back_to_the_same(name, format_name, monkeypatch):
    compiled = compile_case(VALID[name], monkeypatch)
    resolved = compiled.resolved
    if format_name == "python" and resolved["method"] == "dpo" and resolved["target"]["trl"] < "1":
        assert codes(format_name, resolved) == ["SG505"]
        return
    text = FORMATS[format_name](resolved, compiled.origins, (name,))
    loaded = load_text(f"resolved.{SUFFIXES[format_name]}", text)
    assert loaded.data == resolved
    assert digest(loaded.data) == resolved["digest"]


@pytest.mark.parametrize("name", VALID)
def test_the_same_config_gives_the_same_bytes(name, monkeypatch):
    one, other = (compile_case(VALID[name], monkeypatch) for _ in range(2))
    for format_name in FORMATS:
        try:
            text = FORMATS[format_name](one.resolved, one.origins, (name,))
        except Refused:
            continue
        assert text == FORMATS[format_name](other.resolved, other.origins, (name,))


@given(mappings_of(ANY).filter(lambda data: not {"apiVersion", "toml"} & data.keys()))
@settings(deadline=None)
def test_any_data_survives_toml(data):
    resolved = {"apiVersion": "silogen.resolved/v1", **data}
    text = FORMATS["toml"](resolved, {})
    assert tomllib.loads(text)["apiVersion"] == "silogen.resolved/v1"
    assert load_text("a.toml", text).data == resolved


texts = st.text(max_size=12) | st.sampled_from(
    ["0", "int('0')", "${env:A}", 'a"""b', "\\", "it's", "\n\n x \n"]
)


@given(st.dictionaries(texts, texts | st.none() | st.floats(allow_nan=False, allow_infinity=False)), texts)
@settings(max_examples=50, deadline=None)
def test_any_text_survives_the_script(data, text):
    resolved, origins = compile_with()
    resolved["model"]["from_pretrained"] |= {"proxies": data, "max_memory": {"0": "1GB", "01": "2"}}
    resolved["trainer"]["args"] |= {"run_name": text, "lr_scheduler_kwargs": {"a": [text, data]}}
    resolved["trainer"]["environment"] |= {"A": text}
    resolved["tokenizer"]["chat_template"]["template"] = text
    resolved["run"]["final_checkpoint_name"] = text
    resolved["data"]["train"]["datasets"] = [{"path": text}]
    script = FORMATS["python"](resolved, origins, ("run.yaml", "--set", f"a={text}"))
    assert load_text("train.py", script).data == resolved


def test_toml_shows_origins_also_of_nulls():
    lines = silogen_compile(CASES / "lora.yaml", "--format", "toml").stdout.splitlines()
    assert any(line.startswith("learning_rate = 2e-05  # ") and "lora.yaml:9:18" in line for line in lines)
    assert '  ["trainer", "args", "deepspeed"],  # default' in lines


@pytest.mark.parametrize("nulls", ["1", "[1]", "[[]]", '[["trainer", "nothing", "here"]]', '[["method", 0]]'])
def test_nulls_that_are_not_as_written_do_no_harm(nulls):
    text = f'apiVersion = "silogen.resolved/v1"\nmethod = "sft"\n[toml]\nnulls = {nulls}\n'
    assert load_text("a.toml", text).data["toml"] == tomllib.loads(text)["toml"]


@pytest.mark.parametrize(
    "text", ["import os\n", "print(", "\n# silogen: {}\n", "x = 1\n# silogen: 1\n", "\0"]
)
def test_other_scripts_are_refused(text):
    with pytest.raises(Refused, match="SG103: not a script that `silogen compile --format python` wrote"):
        load_text("train.py", text)


# The script.


def test_every_script_is_clean_and_imports_no_silogen(monkeypatch, tmp_path):
    for name, path in VALID.items():
        compiled = compile_case(path, monkeypatch)
        with suppress(Refused):
            text = FORMATS["python"](compiled.resolved, compiled.origins, (name,))
            (tmp_path / f"{name}.py").write_text(text)
            modules = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
            packages = {module.partition(".")[0] for module in modules}
            assert packages <= {"datasets", "peft", "transformers", "trl"}
    rules = ["--select", "E4,E7,E9,F,W,I,B", "--ignore", "B905", "--config", "line-length=110"]
    command = [sys.executable, "-m", "ruff", "check", "--isolated", *rules, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_secrets_are_read_from_the_environment():
    text = silogen_compile(CASES / "secrets.yaml", "--format", "python").stdout
    assert text.count('token=os.environ["HF_TOKEN"],') >= 2
    assert "hf_abcdefgh" not in text


@pytest.mark.parametrize("format_name", ["python", "torchrun"])
def test_a_secret_among_the_settings_is_not_repeated(format_name):
    setting = "run_conf.model_args.token=hf_abcdefgh"
    result = silogen_compile(CASES / "lora.yaml", "--set", setting, "--format", format_name)
    assert result.exit_code == 0
    assert "hf_abcdefgh" not in result.output


def test_gpus_are_numbers_in_the_script():
    text = silogen_compile(CASES / "free-mappings.yaml", "--format", "python").stdout
    assert 'max_memory={0: "40GiB", "cpu": "64GiB"},' in text


def test_an_adapter_that_trl_cannot_train_is_refused():
    resolved, _ = compile_with()
    assert codes("python", {**resolved, "peft": {"class": "PolyConfig", "kwargs": {}}}) == ["SG725"]


# Launchers.


@pytest.mark.parametrize("name", VALID)
def test_accelerate_reads_the_config_of_every_case(name, monkeypatch, tmp_path):
    compiled = compile_case(VALID[name], monkeypatch)
    launch, args = compiled.resolved["launch"], compiled.resolved["trainer"]["args"]
    if args["use_cpu"] and launch["world_size"] > 1:
        assert codes("accelerate", compiled.resolved) == ["SG505"]
        return
    path = tmp_path / "accelerate.yaml"
    path.write_text(FORMATS["accelerate"](compiled.resolved, compiled.origins))
    read = load_config_from_file(str(path))
    kinds = {"single": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}
    assert read.distributed_type == DistributedType(kinds[launch["strategy"]])
    assert (read.num_processes, read.num_machines) == (launch["world_size"], launch.get("nodes", 1))
    precision = "bf16" if args["bf16"] else "fp16" if args["fp16"] else "no"
    # what DeepSpeed computes in stands among the trainer's arguments, and accelerate refuses a second word
    assert read.mixed_precision == (None if launch["strategy"] == "deepspeed" else precision)


@pytest.mark.parametrize(
    ("fsdp", "config", "expected"),
    [
        (True, None, {"fsdp_version": 2, "fsdp_reshard_after_forward": True, "fsdp_offload_params": False}),
        ("shard_grad_op offload", None, {"fsdp_reshard_after_forward": False, "fsdp_offload_params": True}),
        (["full_shard"], {"version": 1}, {"fsdp_version": 1, "fsdp_reshard_after_forward": "FULL_SHARD"}),
        (
            True,
            {"fsdp_transformer_layer_cls_to_wrap": ["A", "B"]},
            {"fsdp_transformer_layer_cls_to_wrap": "A,B"},
        ),
        (True, '{"cpu_offload": true}', {"fsdp_offload_params": True}),
    ],
)
def test_settings_of_fsdp_go_to_accelerate(fsdp, config, expected, tmp_path):
    resolved, _ = compile_with(training_args={"fsdp": fsdp, "fsdp_config": config})
    path = tmp_path / "accelerate.yaml"
    path.write_text(FORMATS["accelerate"](resolved, {}))
    read = load_config_from_file(str(path)).fsdp_config
    assert {key: read[key] for key in expected} == expected


def test_torchrun_names_where_machines_meet(monkeypatch):
    resolved = copy.deepcopy(compile_case(VALID["launch-two-machines.yaml"], monkeypatch).resolved)
    launch = resolved["launch"] | {"rdzv_endpoint": "node0:29500", "rdzv_id": "night run"}
    resolved["launch"] = launch
    each = launch["world_size"] // 2
    meeting = "--nnodes 2 --rdzv-endpoint node0:29500 --rdzv-backend c10d --rdzv-id 'night run'"
    line = FORMATS["torchrun"](resolved, {}, ["run.yaml"])
    assert line == f"torchrun {meeting} --nproc-per-node {each} -m silogen_runtime run.yaml\n"
    resolved["launch"] = launch | {"rdzv_endpoint": None}
    assert codes("torchrun", resolved) == ["SG505"]


def test_accelerate_refuses_what_it_does_not_start_or_what_is_not_read():
    resolved, _ = compile_with(training_args={"use_cpu": True})
    assert codes("accelerate", resolved) == ["SG505"]
    resolved, _ = compile_with(training_args={"fsdp": True, "fsdp_config": "fsdp.json"})
    assert codes("accelerate", resolved) == ["SG505"]


def test_deepspeed_gets_numbers_for_auto():
    auto = {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_clipping": "auto",
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "weight_decay": "auto"}},
        "scheduler": {"params": {"warmup_num_steps": "auto", "total_num_steps": "auto"}},
        "bf16": {"enabled": "auto"},
        "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto"},
    }
    training = {"deepspeed": auto, "learning_rate": 1e-4, "bf16": True, "max_steps": 200, "warmup_ratio": 0.1}
    resolved, _ = compile_with(training_args=training)
    filled = json.loads(FORMATS["deepspeed"](resolved, {}))
    args = resolved["trainer"]["args"]
    total = 2 * args["per_device_train_batch_size"] * args["gradient_accumulation_steps"]
    assert filled["train_batch_size"] == total == BASE["batchsize_conf"]["total_train_batch_size"]
    assert filled["train_micro_batch_size_per_gpu"] == args["per_device_train_batch_size"]
    assert filled["gradient_clipping"] == 1.0
    assert filled["optimizer"]["params"] == {"lr": 1e-4, "betas": [0.9, 0.999], "weight_decay": 0.0}
    assert filled["scheduler"]["params"] == {"warmup_num_steps": 20, "total_num_steps": 200}
    assert filled["bf16"] == {"enabled": True}
    assert filled["zero_optimization"]["reduce_bucket_size"] == "auto"  # follows from the model


@pytest.mark.parametrize(
    ("deepspeed", "said"),
    [(None, "does not use DeepSpeed"), ("zero3.json", "--set-file training_args.deepspeed=zero3.json")],
)
def test_deepspeed_without_a_config_of_it(deepspeed, said):
    setting = f"training_args.deepspeed={json.dumps(deepspeed)}"
    result = silogen_compile(CASES / "lora.yaml", "--set", setting, "--format", "deepspeed")
    assert result.exit_code == 1
    assert "error[SG505]" in result.stderr
    assert said in result.stderr
    assert result.stdout == ""


def test_torchrun_starts_what_was_compiled():
    config = CASES / "lora.yaml"
    words = ["--set", "run_conf.model=my model", "--set", "training_args.seed=1"]
    result = silogen_compile(config, *words, "--world-size", 4, "--format", "torchrun")
    start = ["torchrun", "--standalone", "--nproc-per-node", "4", "-m", "silogen_runtime", str(config)]
    assert shlex.split(result.stdout) == [*start, *words]
    assert result.stdout.count("\n") == 1


def test_torchrun_needs_a_file():
    result = silogen_compile("-", "--format", "torchrun", input=(CASES / "lora.yaml").read_text())
    assert result.exit_code == 1
    assert "error[SG505]" in result.stderr


# The command.


def test_help_says_what_each_format_is_for():
    lines = silogen_compile("--help").stdout.splitlines()
    for name, format_ in FORMATS.items():
        assert f"    {name:11} {format_.help}" in lines


def test_an_unknown_format_is_named():
    result = silogen_compile(CASES / "lora.yaml", "--format", "xml")
    assert result.exit_code == 2
    assert "'python'" in result.stderr
