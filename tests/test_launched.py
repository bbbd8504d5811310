"""What is read from the environment of a process that torchrun, srun or Fabric started."""

import pytest

from resnet.config.launched import is_first_process, started_processes

NAMES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_NUM_NODES",
)


@pytest.mark.parametrize(
    ("environment", "processes", "is_first"),
    [
        ({}, None, True),
        ({"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (2, 2), False),  # torchrun's second node
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NUM_NODES": "2"}, (3, 2), False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None, True),  # a single task, or a shell
        ({"SLURM_PROCID": "0"}, None, True),  # a job script
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, None, False),  # Fabric's own: the config says how many
    ],
)
def test_who_started_this_process(monkeypatch, environment, processes, is_first) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert started_processes() == processes and is_first_process() == is_first
