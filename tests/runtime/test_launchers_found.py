"""What a process learns from its launcher, and which processes it starts itself."""

from __future__ import annotations

import os

import pytest
from silogen_compiler.diagnostics import Refused
from silogen_runtime.environment import check_launcher
from silogen_runtime.launchers import Place, find_place, first_name, take
from silogen_runtime.processes import Group, group_of, processes_here, refuse_missing_devices

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PET_NNODES")
POD = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "run-master-0", "MASTER_PORT": "23456"}
TASK = {
    "SLURM_JOB_ID": "12345",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
}


@pytest.fixture
def place(monkeypatch):
    """Return a function that finds the place under the variables of a launcher."""

    def find(variables):
        for name in [*NAMES, *(name for name in os.environ if name.startswith("SLURM_"))]:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return find_place()

    return find


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        ({**POD, "LOCAL_RANK": "1"}, Place(1, 4, 1, "run-master-0", "23456")),
        (POD, Place(1, 4, 0, "run-master-0", "23456", machines=4)),
        ({**POD, "PET_NNODES": "2"}, Place(1, 4, 0, "run-master-0", "23456", machines=2)),
        (TASK, Place(3, 4, 1, "gpu07", "32345")),
        ({**TASK, "SLURM_NNODES": "4"}, Place(3, 4, 1, "gpu07", "32345", machines=4)),
        ({**TASK, "MASTER_ADDR": "a", "MASTER_PORT": "1"}, Place(3, 4, 1, "a", "1")),
        ({name: TASK[name] for name in TASK if name != "SLURM_STEP_ID"}, None),  # a batch script
    ],
)
def test_the_place_that_a_launcher_gives(place, variables, expected):
    assert place(variables) == expected


@pytest.mark.parametrize(("machines", "refused"), [("2:4", True), ("two", True), ("2", False), ("", False)])
def test_a_pod_needs_one_number_of_machines(place, machines, refused):
    place({**POD, "PET_NNODES": machines, "LOCAL_RANK": "1"})
    assert list(check_launcher()) == []  # torchrun has read it
    os.environ.pop("LOCAL_RANK")
    said = f"`PET_NNODES` is `{machines}`, and a config is resolved for one number of machines"
    assert [found.message for found in check_launcher()] == [said] * refused


def test_a_place_is_told_to_the_libraries(place, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "so that the end of the test takes it back")
    take(place(TASK))
    assert [os.environ[name] for name in NAMES[:5]] == ["3", "1", "4", "gpu07", "32345"]


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu7,gpu8", "gpu7"),
        ("a[003-007,9],b1", "a003"),
        ("n[1,2]-ib,b", "n1-ib"),
        ("", ""),
    ],
)
def test_the_first_machine_of_a_list(names, first):
    assert first_name(names) == first


def resolved(**launch):
    launch = {"world_size": 8, "strategy": "ddp", **launch}
    return {"launch": launch, "trainer": {"args": {"use_cpu": True}}}


PID = str(os.getpid())
ALONE = Place(0, 1, 0, "", "")
TWO_PODS = Place(1, 2, 0, "a", "1", machines=2)


@pytest.mark.parametrize(
    ("config", "place", "expected"),
    [
        (resolved(world_size=1), None, None),
        (resolved(), ALONE, None),
        (resolved(world_size=2), TWO_PODS, None),
        (resolved(), TWO_PODS, Group(2, 4, "a:1", "static", rank=1)),
        (resolved(), None, Group(1, 8, "localhost:0", run_id=PID)),
        (
            resolved(world_size=1, strategy="deepspeed"),
            None,
            Group(1, 1, "localhost:0", run_id=str(os.getpid())),
        ),
        (
            resolved(nodes=2, rdzv_endpoint="a:1", rdzv_backend="etcd-v2", rdzv_id="x"),
            None,
            Group(2, 4, "a:1", "etcd-v2", "x"),
        ),
    ],
)
def test_the_processes_to_start(config, place, expected):
    assert group_of(config, place) == expected


@pytest.mark.parametrize(
    ("launch", "place", "expected"),
    [
        ({}, None, 1),
        ({"processes_per_node": 4}, None, 4),
        ({"processes_per_node": "auto"}, None, 1),  # no GPU takes part
        ({"processes_per_node": 4}, TWO_PODS, 4),
        ({}, TWO_PODS._replace(world_size=16), 8),
    ],
)
def test_the_processes_of_a_machine(launch, place, expected):
    assert processes_here(launch, place, use_cpu=True) == expected


def test_a_number_that_machines_do_not_divide():
    with pytest.raises(Refused, match="SG702: the config is resolved for 8 processes on 3 machines"):
        group_of(resolved(), TWO_PODS._replace(machines=3))


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr("silogen_runtime.processes.devices", lambda: 2)
    refuse_missing_devices(2, use_cpu=False)
    refuse_missing_devices(3, use_cpu=True)
    with pytest.raises(Refused, match=r"SG742: 3 processes .* and there are 2"):
        refuse_missing_devices(3, use_cpu=False)
