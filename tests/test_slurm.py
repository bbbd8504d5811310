"""On a real SLURM of two nodes (tests/slurm/start): one model over both, a warning and a requeue that lose nothing."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from conftest import ROOT, call
from test_processes import SMALL, numbers
from test_resume import assert_same_run, finish
from test_run import summary


def slurm_answers() -> bool:
    if shutil.which("sinfo") is None:
        return False
    done = subprocess.run(["sinfo", "--noheader", "--format=%D"], capture_output=True, text=True, timeout=20)
    return done.returncode == 0 and done.stdout.strip() not in ("", "0")


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not slurm_answers(), reason="no SLURM answers here; tests/slurm/start makes one of two nodes"),
    pytest.mark.xdist_group("slurm"),
]
ENVIRONMENT = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
OVER_BOTH = ("--nodes=2", "--ntasks=2", "--ntasks-per-node=1")
ARGUMENTS = (*SMALL, "model.norm=group", "fabric=slurm", "fabric.accelerator=cpu")
REQUEUE = '[ $status -ne 75 ] || scontrol requeue "$SLURM_JOB_ID"'


def srun(folder, *arguments) -> str:
    command = ["srun", *OVER_BOTH, sys.executable, str(ROOT / "train.py"), *arguments]
    return finish(subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))


def submit(folder, *arguments, afterwards="") -> str:
    """The job's number."""
    options = "\n".join(f"#SBATCH {option}" for option in (*OVER_BOTH, "--requeue", "--open-mode=append", "--output=job.log"))
    line = " ".join(f"'{argument}'" for argument in (sys.executable, ROOT / "train.py", *arguments))
    (folder / "job.sh").write_text(f"#!/bin/bash\n{options}\nsrun {line}\nstatus=$?\n{afterwards}\nexit $status\n")
    done = subprocess.run(["sbatch", "--parsable", "job.sh"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def wait_until(condition, seconds) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def is_gone(job) -> bool:
    return not subprocess.run(["squeue", "--noheader", f"--jobs={job}"], capture_output=True, text=True).stdout.strip()


def warn_in_the_middle(folder, job) -> None:
    """As SLURM does before it takes the nodes away: SIGUSR1 to every task."""
    wait_until((folder / "outputs" / "a" / "checkpoints" / "last.pt").exists, 60)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    wait_until(lambda: summary(folder / "outputs" / "a")["status"] == "interrupted", 60)


def test_two_nodes_give_one_process_s_curve(tmp_path) -> None:
    srun(tmp_path, *ARGUMENTS, "epochs=2", "name=nodes")
    call(tmp_path, ROOT / "train.py", *SMALL, "model.norm=group", "epochs=2", "name=one")
    nodes, one = (tmp_path / "outputs" / name for name in ("nodes", "one"))
    assert summary(nodes)["sessions"][0]["processes"] == 2
    for theirs, mine in zip(numbers(nodes), numbers(one), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-5)


def test_a_warning_in_the_middle_of_an_epoch_loses_nothing(tmp_path) -> None:
    for folder in ("calm", "wild"):
        (tmp_path / folder).mkdir()
    arguments = (*ARGUMENTS, "model.dropout=0.3", "epochs=15", "name=a")  # the random numbers of both processes go on too
    job = submit(tmp_path / "wild", *arguments)
    warn_in_the_middle(tmp_path / "wild", job)
    wait_until(lambda: is_gone(job), 60)
    assert "continued: from step" in srun(tmp_path / "wild", *arguments)
    srun(tmp_path / "calm", *arguments)
    assert_same_run(tmp_path / "calm" / "outputs" / "a", tmp_path / "wild" / "outputs" / "a")


@pytest.mark.full
def test_a_requeued_job_finds_its_run(tmp_path) -> None:
    """SLURM waits two minutes before it starts a requeued job."""
    for folder in ("calm", "wild"):
        (tmp_path / folder).mkdir()
    arguments = (*ARGUMENTS, "epochs=40", "name=a")
    job = submit(tmp_path / "wild", *arguments, afterwards=REQUEUE)
    warn_in_the_middle(tmp_path / "wild", job)
    wait_until(lambda: summary(tmp_path / "wild" / "outputs" / "a")["status"] == "finished", 300)
    srun(tmp_path / "calm", *arguments)
    assert_same_run(tmp_path / "calm" / "outputs" / "a", tmp_path / "wild" / "outputs" / "a")
    assert len(summary(tmp_path / "wild" / "outputs" / "a")["sessions"]) == 2


def test_a_sweep_over_the_cluster_is_the_one_on_one_machine(tmp_path) -> None:
    grid = ("-m", "data=digits", "epochs=2", "model.layers=[1],[1,1]", "seed=0,1")
    command = [sys.executable, str(ROOT / "train.py"), *grid, "sweep.name=cluster", "hydra/launcher=slurm"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert "multirun/cluster: 4 of 4 jobs finished" in finish(process)
    call(tmp_path, ROOT / "train.py", *grid, "sweep.name=here")
    runs = [sorted(path.parent for path in (tmp_path / "multirun" / name).glob("*/summary.json")) for name in ("cluster", "here")]
    assert [path.name for path in runs[0]] == [path.name for path in runs[1]]
    for one, other in zip(*runs, strict=True):
        assert_same_run(one, other)
