"""A checkpoint counts only where every file of it was written to its end."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import torch.distributed.checkpoint as sharded
from rich.console import Console
from silogen_config import ResolvedConfig
from silogen_runtime.checkpoints import choose_start
from silogen_runtime.defects import find_defect
from silogen_runtime.train import train
from tiny import resolved_config
from transformers import AutoModelForCausalLM

# What resuming does not read: the trainer has loaded the tokenizer before.
NOT_LOADED = {"chat_template.jinja", "README.md"}

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


def cut(file, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def fill(file, start: int, end: int) -> None:
    """Write zeros, as a file system does that lost what was written last."""
    kept = file.read_bytes()
    file.write_bytes(kept[:start] + bytes(len(kept[start:end])) + kept[end:])


def write_index(folder) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def auto(config: dict) -> ResolvedConfig:
    return ResolvedConfig.model_validate(
        {**config, "run": {**config["run"], "resume_from_checkpoint": "auto"}}
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory, byte_level_model):
    """Return the output folder of a run with two checkpoints."""
    folder = tmp_path_factory.mktemp("saved")
    config = resolved_config(folder, model=byte_level_model, args=SAVING)
    train(config, console=Console(quiet=True))
    return folder / "out"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "trainer_state.json").unlink(), "trainer_state.json is missing"),
        (lambda folder: cut(folder / "trainer_state.json", 20), "trainer_state.json is cut off"),
        (
            lambda folder: (folder / "trainer_state.json").write_bytes(b"\xff"),
            "trainer_state.json is cut off",
        ),
        (lambda folder: (folder / "trainer_state.json").write_text("{}"), "does not tell the step"),
        (lambda folder: cut(folder / "model.safetensors", 0), "model.safetensors is cut off"),
        (lambda folder: cut(folder / "model.safetensors", 5), "model.safetensors is cut off"),
        (lambda folder: cut(folder / "model.safetensors", 100), "model.safetensors is cut off"),
        (lambda folder: cut(folder / "model.safetensors", -1), "model.safetensors is cut off"),
        (lambda folder: fill(folder / "model.safetensors", 0, 10**9), "model.safetensors is cut off"),
        (lambda folder: fill(folder / "model.safetensors", 8, 16), "model.safetensors is cut off"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no safetensors file"),
        (write_index, "model-2.safetensors is missing"),
        (lambda folder: (folder / "model.safetensors.index.json").touch(), "index.json is cut off"),
        (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda folder: cut(folder / "optimizer.pt", -100), "optimizer.pt is cut off"),
        (lambda folder: fill(folder / "optimizer.pt", 0, 10**9), "optimizer.pt is cut off"),
        (lambda folder: cut(folder / "scheduler.pt", 0), "scheduler.pt is cut off"),
        (lambda folder: (folder / "rng_state.pth").unlink(), "rng_state.pth is missing"),
    ],
)
def test_an_incomplete_checkpoint_is_skipped(resolve, saved, tmp_path, damage, said):
    shutil.copytree(saved, tmp_path / "out")
    config = auto(resolve())
    assert choose_start(config) == (tmp_path / "out" / "checkpoint-4", ())
    damage(tmp_path / "out" / "checkpoint-4")
    start = choose_start(config)
    assert start.checkpoint == tmp_path / "out" / "checkpoint-2"
    assert [finding.code for finding in start.diagnostics] == ["SG709"]
    assert said in start.diagnostics[0].message


def test_every_file_that_is_cut_off_at_any_length_is_found(resolve, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "out")
    config, newest = auto(resolve()), tmp_path / "out" / "checkpoint-4"
    files = {file: file.read_bytes() for file in newest.iterdir() if file.name not in NOT_LOADED}
    assert len(files) >= 11
    for file, content in files.items():
        for size in (0, 1, 7, len(content) // 2, len(content) - 2):
            file.write_bytes(content[:size])
            assert choose_start(config).checkpoint == tmp_path / "out" / "checkpoint-2", (file.name, size)
            assert find_defect(newest, with_states=True) in {
                f"{file.name} is cut off or damaged",
                f"{file.name} does not tell the step",
            }
        file.write_bytes(content)
    assert choose_start(config).checkpoint == newest


def test_a_part_of_sharded_weights_that_is_missing_or_cut_off(saved, tmp_path):
    folder = shutil.copytree(saved / "checkpoint-4", tmp_path / "checkpoint-4")
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="200KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    assert find_defect(folder, with_states=True) == ""
    content = parts[-1].read_bytes()
    cut(parts[-1], len(content) // 2)
    assert find_defect(folder, with_states=True) == f"{parts[-1].name} is cut off or damaged"
    parts[-1].unlink()
    assert find_defect(folder, with_states=True) == f"{parts[-1].name} is missing"


@pytest.fixture
def deepspeed(tmp_path):
    """Return a checkpoint with the files that DeepSpeed writes for two processes."""
    folder = tmp_path / "checkpoint-4"
    (folder / "global_step4").mkdir(parents=True)
    (folder / "trainer_state.json").write_text('{"global_step": 4}')
    (folder / "resolved.json").write_text('{"launch": {"world_size": 2}}')
    (folder / "latest").write_text("global_step4")
    for rank in (0, 1):
        torch.save({}, folder / f"rng_state_{rank}.pth")
        torch.save({}, folder / "global_step4" / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    torch.save({"module": torch.zeros(100)}, folder / "global_step4" / "mp_rank_00_model_states.pt")
    return folder


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: None, ""),
        (lambda folder: (folder / "latest").unlink(), "latest does not name a folder of DeepSpeed's states"),
        (lambda folder: cut(folder / "latest", 8), "latest does not name a folder of DeepSpeed's states"),
        (lambda folder: (folder / "rng_state_1.pth").unlink(), "rng_state_1.pth is missing"),
        (
            lambda folder: cut(folder / "global_step4" / "mp_rank_00_model_states.pt", 300),
            "global_step4/mp_rank_00_model_states.pt is cut off or damaged",
        ),
    ],
)
def test_the_folders_of_deepspeed(deepspeed, damage, said):
    damage(deepspeed)
    assert find_defect(deepspeed, with_states=False) == said


@pytest.mark.parametrize(("rank", "said"), [("0", ""), ("1", "rng_state_1.pth is missing"), (None, "")])
def test_a_machine_holds_the_random_states_of_its_own_processes(deepspeed, monkeypatch, rank, said):
    record = {"launch": {"world_size": 2}, "trainer": {"args": {"save_on_each_node": True}}}
    (deepspeed / "resolved.json").write_text(json.dumps(record))
    (deepspeed / "rng_state_1.pth").unlink()
    monkeypatch.delenv("RANK", raising=False)
    if rank:
        monkeypatch.setenv("RANK", rank)
    assert find_defect(deepspeed, with_states=False) == said


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_folders_of_fsdp(tmp_path):
    (tmp_path / "trainer_state.json").write_text('{"global_step": 4}')
    states = tmp_path / "pytorch_model_fsdp_0"
    sharded.save({"model": {"weight": torch.zeros(100)}}, checkpoint_id=states)
    assert find_defect(tmp_path, with_states=False) == ""
    content = (states / "__0_0.distcp").read_bytes()
    cut(states / "__0_0.distcp", len(content) // 2)
    assert find_defect(tmp_path, with_states=False).endswith("__0_0.distcp is cut off or damaged")
    (states / "__0_0.distcp").write_bytes(content)
    (states / ".metadata").unlink()
    assert find_defect(tmp_path, with_states=False) == "pytorch_model_fsdp_0/.metadata is missing"
