"""Which of the processes of one run this is. Imports nothing, so that it is known from the first moment on."""

import os


def is_first_process() -> bool:
    """A process that is alone is the first one."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
