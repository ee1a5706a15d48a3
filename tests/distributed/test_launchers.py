"""Processes that a launcher started join; a launcher's single process on a machine starts the others."""

from __future__ import annotations

import json
import shlex

import pytest
from commands import COMMAND, finish, free_port, losses
from silogen_compiler.emit import FORMATS
from silogen_compiler.pipeline import compile_file

SHORT = {"max_steps": 2}


def check(codes, folder):
    for code, printed in codes:
        assert code == 0, printed
        assert "Warning" not in printed
    assert json.loads((folder / "resolved.json").read_text())["launch"]["world_size"] == 2
    assert len(losses(folder)) == 2


ACCELERATE = (
    *("accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "bf16", "--dynamo_backend", "no", "--main_process_port"),
)


def torchrun(path):
    """Return the command that `silogen compile` writes."""
    compiled = compile_file(str(path), world_size=2, environment={})
    return shlex.split(FORMATS["torchrun"](compiled.resolved, compiled.origins, (str(path),)))


def accelerate(path):
    return [*ACCELERATE, free_port(), "-m", "silogen_runtime", str(path)]


@pytest.mark.parametrize(
    ("launcher", "variables"), [(torchrun, {}), (accelerate, {"ACCELERATE_USE_CPU": "true"})]
)
def test_joining(config, start, tmp_path, launcher, variables):
    path = config(training_args=SHORT, launch={"processes_per_node": 4})
    ended = finish(start(*launcher(path), **variables))
    check([ended], tmp_path / "run")
    assert ended[1].count("compiling for 2 processes, the number that really train\n") == 1
    assert ended[1].count("warning[SG367]: compiled for 2 processes") == 1


def test_accelerate_takes_the_file_written_for_it(config, start, tmp_path):
    path = config("my run", training_args=SHORT)
    compiled = compile_file(str(path), environment={})
    (tmp_path / "accelerate.yaml").write_text(FORMATS["accelerate"](compiled.resolved, compiled.origins))
    command = ("accelerate", "launch", "--config_file", "accelerate.yaml", "-m", "silogen_runtime")
    code, printed = finish(start(*command, path.name))
    assert code == 0, printed
    assert len(losses(tmp_path / "my run")) == 2


def slurm(rank, machines):
    return {
        "SLURM_JOB_ID": free_port(),
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": "0" if machines == 2 else str(rank),
        "SLURM_NTASKS": "2",
        "SLURM_NNODES": str(machines),
        "SLURM_NODELIST": "localhost",
    }


def test_joining_tasks_of_slurm(config, start, tmp_path):
    path = config(training_args=SHORT)
    port = {"MASTER_PORT": free_port()}
    tasks = [start(*COMMAND, str(path), **slurm(rank, 1), **port) for rank in (0, 1)]
    check([finish(task) for task in tasks], tmp_path / "run")


def test_a_pod_starts_its_processes(config, start, tmp_path):
    path = config(training_args=SHORT, launch={"processes_per_node": 2})
    pod = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    check([finish(start(*COMMAND, str(path), **pod))], tmp_path / "run")


def test_machines_meet(config, start, tmp_path):
    launch = {"nodes": 2, "processes_per_node": 1, "rdzv_endpoint": f"localhost:{free_port()}"}
    path = config(training_args=SHORT, launch=launch)
    machines = [start(*COMMAND, str(path)) for _ in range(2)]
    check([finish(machine) for machine in machines], tmp_path / "run")


def test_machines_that_nothing_connects(config, start):
    code, printed = finish(start(*COMMAND, str(config(launch={"nodes": 2}))))
    assert code == 4
    assert "error[SG743]: 2 machines are to train, and nothing says where they meet" in printed
