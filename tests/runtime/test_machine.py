"""What a machine lacks is found before anything is loaded."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest
import torch
from mlflow.exceptions import MlflowException
from silogen_compiler.diagnostics import Refused
from silogen_compiler.targets import load_target
from silogen_config import ResolvedConfig
from silogen_runtime import versions
from silogen_runtime.failures import explain_failures
from silogen_runtime.machine import check_machine
from tiny import LORA
from transformers import AutoModelForCausalLM, TrainingArguments

TRACKING = {
    "mlflow_server_uri": "sqlite:///mlflow.db",
    "experiment_name": "tiny",
    "run_id": None,
    "run_name": None,
    "hf_mlflow_log_artifacts": "False",
}


@pytest.fixture
def check(resolve):
    def findings(args=(), attention=None, **sections) -> list[str]:
        kwargs = sections.pop("model", {})
        kwargs = {"pretrained_model_name_or_path": kwargs} if isinstance(kwargs, str) else kwargs
        config = resolve(args=args, **sections)
        config["model"]["from_pretrained"] |= {"attn_implementation": attention, **kwargs}
        if "pretrained_model_name_or_path" in kwargs:
            config["tokenizer"]["from_pretrained"] |= kwargs
        return [f"{d.code}: {d.message}" for d in check_machine(ResolvedConfig.model_validate(config))]

    return findings


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that makes torch report an NVIDIA GPU of a generation."""

    def report(capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capability >= (8, 0))

    return report


def test_a_machine_that_has_everything(check):
    assert check() == []


@pytest.mark.parametrize("key", ["bf16", "bf16_full_eval"])
def test_bf16_without_a_gpu(check, key):
    assert check({key: True, "use_cpu": False}) == [f"SG703: {key} is on, but there is no GPU"]
    assert check({key: True, "use_cpu": True}) == []


@pytest.mark.parametrize("use_cpu", [True, False])
def test_fp16_on_a_cpu(check, monkeypatch, use_cpu):
    args = {"fp16": True, "use_cpu": use_cpu}
    assert check(args) == ["SG703: fp16 is on, but has no effect on the CPU"]
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert bool(check(args)) == use_cpu


def test_bf16_and_tf32_on_an_older_gpu(check, gpu):
    gpu((7, 5))
    assert check({"bf16": True, "tf32": True, "use_cpu": False}) == [
        "SG703: bf16 is on, but Tesla T4 can't compute in it",
        "SG703: tf32 is on, but only NVIDIA GPUs from the Ampere generation on have it",
    ]
    gpu((8, 0))
    assert check({"bf16": True, "tf32": True}) == []


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention(check, gpu, name):
    assert [finding[:5] for finding in check(attention=name)] == ["SG705", "SG704"]
    gpu((8, 0))
    assert [finding[:5] for finding in check({"use_cpu": False}, attention=name)] == ["SG704"]


def test_flex_attention(check, gpu):
    needs = "SG705: attn_implementation `flex_attention` needs a GPU, and"
    assert check(attention="flex_attention") == [f"{needs} there is none"]
    gpu((8, 0))
    assert check({"use_cpu": False}, attention="flex_attention") == []
    assert check({"use_cpu": True}, attention="flex_attention") == [f"{needs} `use_cpu` is on"]


def test_attention_by_name(check):
    assert check(attention="eager") == check(attention="sdpa") == []
    for name in ("flsh", "paged|eager"):
        assert check(attention=name) == [f"SG705: attn_implementation `{name}` can't be trained with"]
    assert check(attention="kernels-community/x") == [
        "SG704: attn_implementation `kernels-community/x` needs the package `kernels`, which is not installed"
    ]


@pytest.mark.parametrize("place", ["cuda:0", "cuda", "0", 0, "autoo", "disk", "meta", "mps"])
def test_devices_that_are_not_there(check, place):
    missing = f"SG730: device_map names `{place}`, and there is no such device here"
    assert check(model={"device_map": place}) == [missing]
    if place != "disk":
        assert check(model={"device_map": {"model": "cpu", "lm_head": place}}) == [missing]


def test_devices_that_are_there(check, monkeypatch):
    for place in ("auto", "balanced", "sequential", "cpu", {"": "cpu", "x": "disk"}, None):
        assert check(model={"device_map": place, "max_memory": {"cpu": "2GiB"}}) == []
    assert check(model={"max_memory": {"0": "1GiB"}}) == [
        "SG730: max_memory names `0`, and there is no such device here"
    ]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check(model={"device_map": {"": 1}, "max_memory": {"0": "1GiB", "cuda:1": "1GiB"}}) == []
    assert check(model={"device_map": "cuda:2"}) != []


def test_numbers_of_devices_reach_the_library_as_numbers(resolve, run, monkeypatch):
    asked = {}

    def from_pretrained(**kwargs):
        asked.update(kwargs)
        raise KeyError("enough")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    config = resolve()
    config["model"]["from_pretrained"] |= {"device_map": "0", "max_memory": {"0": "1GiB", "cpu": "2GiB"}}
    with pytest.raises(Refused, match="SG734: loading the model failed: KeyError: 'enough'"):
        run(config)
    assert asked["device_map"] == 0
    assert asked["max_memory"] == {0: "1GiB", "cpu": "2GiB"}


@pytest.mark.parametrize(
    ("optimizer", "package"),
    [
        ("adamw_torch_8bit", "torchao"),
        ("galore_adamw_layerwise", "galore_torch"),
        ("lomo", "lomo_optim"),
        ("adalomo", "lomo_optim"),
        ("grokadamw", "grokadamw"),
        ("schedule_free_sgd", "schedulefree"),
        ("apollo_adamw", "apollo_torch"),
        ("stable_adamw", "optimi"),
    ],
)
def test_optimizers_without_their_package(check, optimizer, package):
    assert check({"optim": optimizer}) == [
        f"SG704: optim `{optimizer}` needs the package `{package}`, which is not installed"
    ]


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "lion_8bit", "sgd"])
def test_optimizers_that_are_there(check, optimizer):
    assert check({"optim": optimizer}) == []


def test_missing_packages(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # also where `make test-distributed` put it there
    assert [
        finding.partition(" needs")[0] for finding in check({"use_liger_kernel": True, "deepspeed": {}})
    ] == ["SG704: use_liger_kernel"]
    assert check({"deepspeed": {"zero_optimization": {"stage": 1}}}) == [
        "SG704: deepspeed needs the package `deepspeed`, which is not installed"
    ]


def test_integrations_that_are_not_installed(check):
    assert check({"report_to": ["wandb", "tensorboard"]}) == [
        "SG704: report_to `wandb` needs a package that is not installed"
    ]
    assert check({"report_to": "none"}) == check({"report_to": ["none"]}) == []


def test_missing_files_and_folders(check):
    validation = {"type": "CONCATENATION", "datasets": [{"path": "b.jsonl"}]}
    train = {"type": "CONCATENATION", "datasets": [{"path": "a.jsonl"}]}
    assert check(
        data={"train": train, "validation": validation}, model="./m", peft={"pretrained": "a/b/c"}
    ) == [
        "SG706: there is no data file `a.jsonl`",
        "SG706: there is no data file `b.jsonl`",
        "SG706: there is no folder `./m` for the model and the tokenizer",
        "SG706: there is no folder `a/b/c` for the adapter",
    ]
    assert check(model="some/model") == []


@pytest.mark.parametrize("empty", [True, False])
def test_folders_without_the_files_of_a_model(check, tmp_path, empty):
    folder = tmp_path / "model"
    folder.mkdir()
    if not empty:
        (folder / "tokenizer.json").touch()
    expected = [f"SG706: the folder `{folder}` holds no {what}" for what in ("model", "tokenizer", "adapter")]
    if not empty:
        del expected[1]
    assert check(model=str(folder), peft={"pretrained": str(folder)}) == expected


@pytest.mark.parametrize("args", [{"max_steps": 0}, {"max_steps": -1, "num_train_epochs": 0}])
def test_plans_of_no_steps(check, args):
    assert [finding[:5] for finding in check(args)] == ["SG727"]


def test_examples_that_fill_no_batch(resolve, run):
    args = {"dataloader_drop_last": True, "per_device_train_batch_size": 17}
    with pytest.raises(Refused, match="SG727: 16 examples do not fill a batch"):
        run(resolve(args=args))


def test_other_library_versions(check):
    target = {"name": "x", **{name: version(name) for name in ("transformers", "trl", "peft")}}
    assert check(target=target) == []
    assert check(target={**target, "trl": "0.24.0"}) == [
        f"SG728: the config is compiled for trl 0.24.0, and trl {target['trl']} is here"
    ]
    patch = target["peft"].rpartition(".")[0] + ".99"
    assert check(target={**target, "peft": patch, "bitsandbytes": "0.1"}) == [
        f"SG729: the config is compiled for peft {patch}, and peft {target['peft']} is here"
    ]


def test_other_library_versions_name_a_remedy(resolve, monkeypatch):
    older = load_target("hf-2025.11").packages
    config = ResolvedConfig.model_validate(resolve())
    monkeypatch.setattr(versions, "version", lambda name: older[name])
    (finding,) = check_machine(config)
    assert finding.help.startswith("compile with `--target hf-2025.11`, or pip install transformers==5.")
    monkeypatch.setattr(versions, "version", lambda _: "99.0.0")
    (finding,) = check_machine(config)
    assert finding.help.startswith("pip install transformers==")


def test_tracking_in_a_folder(check, monkeypatch):
    def tracked(uri: str) -> list[str]:
        return check(tracking={**TRACKING, "mlflow_server_uri": uri})

    for uri in ("runs", "/tmp/runs", "file:///tmp/runs"):
        assert tracked(uri) == [f"SG731: mlflow_server_uri `{uri}` is a folder, which MLflow no longer takes"]
    for uri in ("sqlite:////tmp/x.db", "http://localhost:5000", "databricks"):
        assert tracked(uri) == []
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert tracked("runs") == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "two"}, "`WORLD_SIZE` is `two`, not a whole number from 1 on"),
        ({"WORLD_SIZE": "0"}, "`WORLD_SIZE` is `0`, not a whole number from 1 on"),
        ({"WORLD_SIZE": ""}, "`WORLD_SIZE` is ``, not a whole number from 1 on"),
        ({"LOCAL_RANK": "1.5"}, "`LOCAL_RANK` is `1.5`, not a whole number from -1 on"),
        ({"RANK": "-1"}, "`RANK` is `-1`, not a whole number from 0 on"),
        ({"RANK": "1"}, "`RANK` is 1, but `WORLD_SIZE` is 1, and ranks count from 0"),
        (
            {"WORLD_SIZE": "2", "RANK": "0"},
            "`WORLD_SIZE` is 2, but no launcher set MASTER_ADDR, MASTER_PORT",
        ),
    ],
)
def test_nonsense_of_a_launcher(check, monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    launch = {"world_size": 2, "strategy": "ddp"} if variables.get("WORLD_SIZE") == "2" else {}
    assert check(launch=launch) == [f"SG733: {said}"]


def test_processes_that_are_not_connected(resolve, run, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(Refused, match="SG702: the config is resolved for 1 process, but 2 take part"):
        run(resolve())


def test_another_number_of_processes(check, monkeypatch):
    assert check(launch={"world_size": 2, "strategy": "ddp"}) == [
        "SG702: the config is resolved for 2 processes, but 1 started"
    ]
    started = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert check(launch={"world_size": 2, "strategy": "ddp"}) == []


SHARDING = [
    ({"strategy": "fsdp"}, None, "FSDP"),
    ({"strategy": "deepspeed"}, {"zero_optimization": {"stage": 3}}, "ZeRO 3"),
    ({"strategy": "deepspeed"}, '{"zero_optimization": {"stage": 3}}', "ZeRO 3"),
    ({"strategy": "deepspeed"}, "file", "ZeRO 3"),
]


@pytest.mark.parametrize(("launch", "deepspeed", "name"), SHARDING)
def test_sharding_parameters_needs_a_gpu(check, tmp_path, launch, deepspeed, name):
    if deepspeed == "file":
        deepspeed = str(tmp_path / "zero.json")
        (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 3}}')
    found = check(launch=launch, args={"deepspeed": deepspeed})
    assert f"SG741: {name} needs a GPU, and there is none" in found


def test_zero_2_trains_on_the_cpu(check):
    found = check(launch={"strategy": "deepspeed"}, args={"deepspeed": {"zero_optimization": {"stage": 2}}})
    assert not any("SG741" in finding for finding in found)


def test_accelerate_shards_as_the_config_says_or_not_at_all(check, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert check() == ["SG745: accelerate launches with fsdp, and the config trains with single"]


def test_all_findings_come_at_once(resolve, run):
    with pytest.raises(Refused, match=r"SG702.*SG704.*SG708"):
        run(
            resolve(
                launch={"world_size": 2, "strategy": "ddp"},
                args={"use_liger_kernel": True},
                run={"resume_from_checkpoint": True},
                peft=LORA,
            )
        )


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()],
)
def test_running_out_of_memory_names_a_remedy(error):
    with pytest.raises(Refused, match="SG718") as refused, explain_failures("training"):
        raise error
    assert "max_per_device_train_batch_size" in refused.value.diagnostics[0].help


def test_a_failure_of_the_disk_names_the_file():
    with (
        pytest.raises(Refused, match="SG723: permission denied: metrics"),
        explain_failures("training"),
    ):
        raise OSError(13, "Permission denied", "metrics.jsonl")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("first line\nsecond line"), "RuntimeError: first line"),
        (KeyError("x"), "KeyError: 'x'"),
        (ImportError("no module"), "ImportError: no module"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_other_failures_name_the_stage(monkeypatch, error, said):
    monkeypatch.delenv("SILOGEN_TRACEBACK", raising=False)
    with pytest.raises(Refused) as refused, explain_failures("loading the model"):
        raise error
    (finding,) = refused.value.diagnostics
    assert (finding.code, finding.message) == ("SG734", f"loading the model failed: {said}")
    assert "SILOGEN_TRACEBACK=1" in finding.help


def test_other_failures_pass_where_a_traceback_is_wanted(monkeypatch):
    monkeypatch.setenv("SILOGEN_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="else"), explain_failures("training"):
        raise RuntimeError("something else")
    with pytest.raises(Refused, match="SG718"), explain_failures("training"):
        raise MemoryError


def test_a_failure_of_tracking_names_a_remedy():
    with pytest.raises(Refused, match="SG731: MLflow refuses: no") as refused, explain_failures("training"):
        raise MlflowException("no run zzz")
    assert "`sqlite:////absolute/path/mlflow.db`" in refused.value.diagnostics[0].help


def test_an_argument_that_a_library_refuses(resolve, run):
    args = {"accelerator_config": {"foo": 1}}
    with pytest.raises(Refused, match="SG734: setting up the trainer failed: "):
        run(resolve(args=args))


def test_mlflow_without_a_server(check):
    assert check({"report_to": ["mlflow"]}) == ["SG769: report_to names mlflow, which is off"]
    assert check({"report_to": ["mlflow"]}, tracking=TRACKING) == []
