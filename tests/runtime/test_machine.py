"""What a machine lacks is found before anything is loaded."""

from __future__ import annotations

import pytest
import torch
from silogen_compiler.diagnostics import Refused
from silogen_config import ResolvedConfig
from silogen_runtime.failures import explain_failures
from silogen_runtime.machine import check_machine
from tiny import LORA


@pytest.fixture
def check(resolve):
    def findings(args=(), attention=None, **sections) -> list[str]:
        config = resolve(args=args, **sections)
        config["model"]["from_pretrained"]["attn_implementation"] = attention
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


def test_bf16_without_a_gpu(check):
    assert check({"bf16": True, "use_cpu": False}) == ["SG703: bf16 is on, but there is no GPU"]
    assert check({"bf16": True, "use_cpu": True}) == []


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
    assert [finding[:5] for finding in check(attention=name)] == ["SG704"]


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


def test_missing_packages(check):
    assert [
        finding.partition(" needs")[0] for finding in check({"use_liger_kernel": True, "deepspeed": {}})
    ] == ["SG704: use_liger_kernel"]
    assert check({"deepspeed": {"zero_optimization": {"stage": 1}}}) == [
        "SG704: deepspeed needs the package `deepspeed`, which is not installed"
    ]


def test_integrations_that_are_not_installed(check):
    assert check({"report_to": ["wandb", "mlflow"]}) == [
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
        "SG706: there is no folder `./m` for the model",
        "SG706: there is no folder `./m` for the tokenizer",
        "SG706: there is no folder `a/b/c` for the adapter",
    ]
    assert check(model="some/model") == []


def test_another_number_of_processes(check, monkeypatch):
    assert check(launch={"world_size": 2, "strategy": "ddp"}) == [
        "SG702: the config is resolved for 2 processes, but 1 started"
    ]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert check(launch={"world_size": 2, "strategy": "ddp"}) == []


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
    with pytest.raises(Refused, match="SG718") as refused, explain_failures():
        raise error
    assert "max_per_device_train_batch_size" in refused.value.diagnostics[0].help


def test_a_failure_of_the_disk_names_the_file():
    with pytest.raises(Refused, match="SG723: no space left on device: metrics"), explain_failures():
        raise OSError(28, "No space left on device", "metrics.jsonl")


def test_other_failures_pass():
    with pytest.raises(RuntimeError, match="else"), explain_failures():
        raise RuntimeError("something else")
