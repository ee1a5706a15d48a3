"""What a strategy is lowered to, the libraries' own classes take, as far as they go without a GPU."""

from __future__ import annotations

import pytest
from accelerate import FullyShardedDataParallelPlugin
from silogen_compiler.pipeline import compile_file
from torch.distributed.fsdp import (
    CPUOffload,
    CPUOffloadPolicy,
    OffloadPolicy,
    ShardingStrategy,
    StateDictType,
)
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from trl import SFTConfig


@pytest.fixture
def lower(config):
    """Return a function that builds SFTConfig from what a `launch` section becomes for one process."""

    def build(**launch):
        path = config(training_args={"use_cpu": False}, launch=launch)
        args = compile_file(str(path), world_size=1, environment={}).resolved["trainer"]["args"]
        return SFTConfig(**args | {"use_cpu": True})

    return build


@pytest.fixture
def plugin(lower, monkeypatch):
    """Return a function that makes accelerate's plugin as the trainer does."""
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "")  # the plugin sets it

    def build(**changes):
        args = lower(strategy="fsdp", **changes)
        needs_gpu = {"sync_module_states": False} if changes.get("fsdp_version") == 1 else {}
        return FullyShardedDataParallelPlugin(**args.fsdp_plugin_args | needs_gpu)

    return build


@pytest.mark.parametrize(("offload", "kind"), [("none", OffloadPolicy), ("all", CPUOffloadPolicy)])
def test_fsdp_2(plugin, offload, kind):
    built = plugin(cpu_offload=offload)
    assert (built.fsdp_version, built.reshard_after_forward) == (2, True)
    assert type(built.cpu_offload) is kind
    check_shared(built)


@pytest.mark.filterwarnings("ignore:FSDP1 .* is deprecated:FutureWarning")
@pytest.mark.parametrize("offload", ["none", "all"])
def test_fsdp_1(plugin, offload):
    built = plugin(fsdp_version=1, cpu_offload=offload)
    assert (built.fsdp_version, built.reshard_after_forward) == (1, ShardingStrategy.FULL_SHARD)
    assert built.cpu_offload == CPUOffload(offload_params=offload == "all")
    assert built.use_orig_params is True  # adapters train some of a layer's parameters
    check_shared(built)


def check_shared(built):
    assert built.auto_wrap_policy is transformer_auto_wrap_policy
    assert built.state_dict_type == StateDictType.FULL_STATE_DICT


@pytest.mark.usefixtures("deepspeed")
@pytest.mark.xdist_group("deepspeed")
@pytest.mark.parametrize(
    ("stage", "offload", "held"),
    [(1, "none", []), (2, "optimizer", ["optimizer"]), (3, "none", []), (3, "all", ["optimizer", "param"])],
)
def test_zero(lower, stage, offload, held):
    from deepspeed import DeepSpeedConfig  # noqa: PLC0415 - not installed for all tests

    args = lower(strategy="deepspeed", zero_stage=stage, cpu_offload=offload)
    settings = args.hf_deepspeed_config
    settings.trainer_config_finalize(args, model=None, num_training_steps=4)
    assert settings.is_zero3() == (stage == 3)
    read = DeepSpeedConfig(settings.config)
    assert read.zero_config.stage == stage
    assert read.zero_allow_untested_optimizer
    assert not read.zero_force_ds_cpu_optimizer
    assert read.zero_config.gather_16bit_weights_on_model_save == (stage == 3)
    places = {name: getattr(read.zero_config, f"offload_{name}") for name in ("optimizer", "param")}
    assert [name for name, place in places.items() if place and place.device == "cpu"] == held
    assert (read.train_batch_size, read.gradient_accumulation_steps) == (8, 4)
