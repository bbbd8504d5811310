"""Reads what torchrun, srun and Fabric's own launcher put into the environment of the processes that they start for one run."""

import os

from resnet.ranks import is_first_process as is_first_process


def started_processes() -> tuple[int, int] | None:
    """Returns (processes per node, nodes) if torchrun or srun started this process, else None. They take precedence over the config.

    A SLURM job script, a shell in a job and a single task do not count as one of several processes.
    """
    if is_torchrun():
        total, part = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        return part, total // part
    if is_srun():
        total, nodes = int(os.environ["SLURM_STEP_NUM_TASKS"]), int(os.environ["SLURM_STEP_NUM_NODES"])
        return total // nodes, nodes
    return None


def is_torchrun() -> bool:
    return "LOCAL_WORLD_SIZE" in os.environ


def is_srun() -> bool:
    return not is_torchrun() and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
