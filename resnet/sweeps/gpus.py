"""The GPUs of this machine for hydra/launcher=parallel: how many jobs run at once, and on which GPU each worker stays. Needs no torch."""

import itertools
import os
import re
import subprocess
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

WITHOUT_GPU = 2  # jobs at once
_kept: list[FileLock] = []  # held as long as this process lives, because CUDA stays on its first GPU


def visible_gpus() -> list[str]:
    """Returns the GPUs in CUDA_VISIBLE_DEVICES; if it is not set, all that nvidia-smi lists."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return re.findall(r"^GPU (\d+):", listed, re.MULTILINE)


def jobs_at_once(jobs_per_gpu: int) -> int:
    return len(visible_gpus()) * jobs_per_gpu or WITHOUT_GPU


OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)


def stay_on_a_gpu(locks: Path) -> None:
    """Takes the GPU with the fewest workers, before torch looks for GPUs. Each worker holds a lock until it ends."""
    gpus = visible_gpus()
    if _kept or not gpus:
        return
    for gpu, place in ((gpu, place) for place in itertools.count() for gpu in gpus):
        lock = FileLock(locks / f".gpu-{gpu}-{place}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        _kept.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return
