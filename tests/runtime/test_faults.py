"""Full disks and full memory end a run with what to change, and leave the last checkpoint to go on from."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
import torch
from silogen_compiler.diagnostics import Refused
from silogen_runtime.failures import explain_failures
from silogen_runtime.progress import ProgressLine
from test_resume import resume, weights, with_args
from tiny import LINES, LORA, conversation

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8}


@pytest.fixture
def disk():
    """Return a function that mounts a disk of so many megabytes, or gives the one that is there that size.

    Not in a folder of pytest's, which would try to remove the disk that a killed test left. It is unmounted
    lazily, since models map files of it into memory.
    """
    folder = Path(tempfile.mkdtemp(prefix="silogen-disk-"))

    def mount(megabytes: int, *options: str):
        size = ",".join([*options, f"size={megabytes}m"])
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
    folder.rmdir()


def test_a_full_disk_leaves_the_last_checkpoint_to_go_on_from(resolve, run, disk):
    folder = disk(4)
    config = resume(resolve(args=SAVING), how="auto")
    whole, _ = run(config)
    small = with_args(config, output_dir=str(folder / "out"), save_total_limit=5)

    with pytest.raises(Refused, match="SG762: no space left for ") as refused:
        run(small)
    found = refused.value.diagnostics[0]
    assert "free, a checkpoint takes about 1.3 MB" in found.message
    assert "`output_dir`" in found.help
    assert "lower `save_total_limit`, now 5" in found.help
    kept = sorted((folder / "out").glob("checkpoint-*"))
    assert [path.name for path in kept] == ["checkpoint-2", "checkpoint-4"]

    disk(50, "remount")
    rest, screen = run(small)
    assert "8, from 4 on" in screen
    assert weights(rest.final_checkpoint) == weights(whole.final_checkpoint)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "metrics.jsonl"),
        OSError(122, "Disk quota exceeded", "metrics.jsonl"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
)
def test_every_way_to_say_that_a_disk_is_full(error):
    with pytest.raises(Refused, match="SG762: no space left for ") as refused, explain_failures("training"):
        raise error
    assert "write `save_total_limit: 2`" in refused.value.diagnostics[0].help


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        torch.distributed.DistBackendError("Last error:\nCuda failure 2 'out of memory'"),
    ],
)
def test_every_way_to_say_that_memory_is_full(error):
    with pytest.raises(Refused, match="SG718: out of memory while training"), explain_failures("training"):
        raise error


@pytest.fixture
def little_memory(monkeypatch):
    """Let a run have no more memory than it has when training begins."""
    limits = resource.getrlimit(resource.RLIMIT_AS)

    def limit(*_, **__):
        taken = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (taken, limits[1]))

    monkeypatch.setattr(ProgressLine, "on_train_begin", limit)
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("little_memory")
def test_full_memory_names_what_the_config_can_change(resolve, run):
    lines = [conversation("Write much.", "word " * 2000)] * 128 + LINES
    batch = {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 2}
    config = resolve(lines=lines, peft=LORA, args={**batch, "max_length": 512}, data={"max_length": 4096})
    with pytest.raises(Refused, match=r"SG718: out of memory while training: .*can't allocate") as refused:
        run(config)
    assert refused.value.diagnostics[0].help == (
        "lower `max_per_device_train_batch_size` below 64, the batch on each device now: more accumulation"
        " keeps the total of 128; write `gradient_checkpointing: true`; lower `max_seq_length`, now 4096;"
        " load the model in 4 bits: `quant_conf: {load_in_4bit: true}`"
    )
