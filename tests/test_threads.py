"""How PyTorch's threads wait for work is set before torch is loaded, for every process of ours, and a user's own choice stays."""

import os
import re
import subprocess
import sys

import pytest
from conftest import PATIENCE, ROOT

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spins(folder, *arguments, **environment) -> list[str]:
    """What GNU's OpenMP says, in each process that loads it, of the rounds in which a thread looks for work."""
    kept = {key: value for key, value in os.environ.items() if key not in NAMES}
    kept |= {"PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled", "OMP_DISPLAY_ENV": "verbose", **environment}
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, env=kept, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stdout + done.stderr)
    if not found:
        pytest.skip("PyTorch has another OpenMP than GNU's here")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "own", "expected"),
    [
        ("benchmarks.article", {}, "1000"),  # what we are compared with has the same
        ("experiments.gradients.ranges", {}, "1000"),  # whose first import is torch
        ("resnet.run", {"OMP_WAIT_POLICY": "passive"}, "0"),
        ("resnet.run", {"GOMP_SPINCOUNT": "5000"}, "5000"),
    ],
)
def test_a_user_s_own_choice_stays(tmp_path, program, own, expected) -> None:
    assert {*spins(tmp_path, "-c", f"import {program}", **own)} == {expected}


QUICK = ("data=digits", "model.layers=[1]", "model.width=2", "max_steps=1", "fabric.accelerator=cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "processes"),
    [(("-m", "hydra/launcher=parallel", "seed=0,1"), 3), (("fabric=ddp", "fabric.devices=2"), 2)],
    ids=["jobs of a sweep", "processes of a run"],
)
def test_every_process_that_trains_has_it(tmp_path, more, processes) -> None:
    found = spins(tmp_path, ROOT / "train.py", *more, *QUICK)
    assert len(found) >= processes and {*found} == {"1000"}
