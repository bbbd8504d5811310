"""Tells which process of a run this is. Imports no other module of the package, so that any module can use it."""

import os


def is_first_process() -> bool:
    """True for the first process of a run, and for a single process."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
