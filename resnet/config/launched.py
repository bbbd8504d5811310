"""What torchrun, srun and Fabric's own launcher say in the environment of the processes that they start for one run."""

import os

from resnet.ranks import is_first_process as is_first_process


def started_processes() -> tuple[int, int] | None:
    """(processes a node, nodes), where torchrun or srun started this one: they outrank the config. None where nobody did.

    A job script of SLURM, a shell in a job and a single task are none of several processes.
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
