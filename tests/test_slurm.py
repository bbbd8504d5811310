"""On a real SLURM of two nodes (tests/slurm/start): one model over both, a warning and a requeue that lose nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, call
from filelock import FileLock
from test_processes import SMOOTH, assert_same_curve
from test_resume import assert_same_run, finish
from test_run import inspect, summary


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


@pytest.fixture(autouse=True)
def alone(tmp_path_factory):
    """One test at a time has the cluster, whichever worker runs it."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "slurm.lock"):
        yield


ENVIRONMENT = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
OVER_BOTH = ("--nodes=2", "--ntasks=2", "--ntasks-per-node=1")
ARGUMENTS = (*SMOOTH, "fabric=slurm", "fabric.accelerator=cpu")
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
    call(tmp_path, ROOT / "train.py", *SMOOTH, "epochs=2", "name=one")
    nodes, one = (tmp_path / "outputs" / name for name in ("nodes", "one"))
    assert summary(nodes)["sessions"][0]["processes"] == 2
    assert_same_curve(one, nodes)


@pytest.mark.full
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


GRID = ("-m", "data=digits", "epochs=40", "model.layers=[1],[1,1]", "sweep.name=s")
SEEDS = "seed=0,1"


def sweep(folder, *arguments):
    command = [sys.executable, str(ROOT / "train.py"), *GRID, "hydra/launcher=slurm", *arguments]
    environment = {**ENVIRONMENT, "WANDB_MODE": "offline"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    runs = folder / "multirun" / "s"
    return process, lambda: wait_until(lambda: len(list(runs.glob("*/checkpoints/last.pt"))) == 2, 60)


def tasks(state) -> dict[str, str]:
    """Of the array's jobs in a state: the number and the node."""
    command = ["squeue", "--array", "--noheader", f"--states={state}", "--format=%i %N"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {job: node for job, _, node in (line.partition(" ") for line in lines)}


def scontrol(*words) -> None:
    subprocess.run(["scontrol", "update", *words], check=True)


def runs_of(folder):
    return {path.parent.name: path.parent for path in (folder / "multirun" / "s").glob("*/summary.json")}


def wandb_records(folder):
    """Of each run, by its job: all that is the same wherever and whenever it ran."""
    ids = {summary(run)["wandb_run"]: name for name, run in runs_of(folder).items()}
    kept = {}
    for file in (folder / "wandb").glob("offline-run-*/*.wandb"):
        record = inspect(file)
        told = {key: record["summary"][key] for key in ("test/accuracy", "val/accuracy", "val/loss", "status")}
        config = record["config"]
        kept[ids.pop(record["run_id"])] = (
            record["exit_code"],
            record["name"],
            record["tags"],
            config["wandb"]["group"],
            config["seed"],
            told,
        )
    assert not ids
    return kept


@pytest.mark.full
def test_a_sweep_with_a_job_cancelled_and_a_node_lost_is_completed_by_the_same_command(tmp_path) -> None:
    """It is then the sweep of one machine: the runs to the last bit, their W&B records and the comparison."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    process, wait_for_two = sweep(there, SEEDS, "+hydra.launcher.additional_parameters.no-requeue=true")
    wait_for_two()
    running = tasks("running")
    assert set(running.values()) == {"node1", "node2"}
    subprocess.run(["scancel", *(job for job, node in running.items() if node == "node1")], check=True)
    scontrol("nodename=node2", "state=down", "reason=test")
    output = finish(process, 1)
    assert "2 of 4 jobs finished" in output and output.count("\ninterrupted: ") == 2 and "sacct" not in output
    before = {name: summary(run) for name, run in runs_of(there).items() if summary(run)["status"] == "finished"}
    assert "4 of 4 jobs finished" in finish(sweep(there, SEEDS)[0])
    assert before.items() <= {name: summary(run) for name, run in runs_of(there).items()}.items()
    call(here, ROOT / "train.py", *GRID, SEEDS, WANDB_MODE="offline")
    assert runs_of(here).keys() == runs_of(there).keys()
    for name, run in runs_of(here).items():
        assert_same_run(run, runs_of(there)[name])
    assert wandb_records(here) == wandb_records(there)
    compare = ("-m", "resnet", "compare", "multirun/s", "--format", "csv")
    assert call(here, *compare).stdout == call(there, *compare).stdout


def test_a_node_that_drains_ends_its_job_and_a_warning_has_one_queued_again(tmp_path) -> None:
    process, wait_for_two = sweep(tmp_path, "epochs=60")
    wait_for_two()
    (stays,) = (job for job, node in tasks("running").items() if node == "node1")
    scontrol("nodename=node2", "state=drain", "reason=test")
    try:
        subprocess.run(["scancel", "--signal=USR2", stays], check=True)  # as SLURM does before a job's minutes are up
        wait_until(lambda: stays in tasks("pending"), 30)
        time.sleep(5)  # SLURM refuses to start a job with the credential that it has just revoked
        scontrol(f"jobid={stays}", "starttime=now")  # not in two minutes
        assert "2 of 2 jobs finished" in finish(process)
    finally:
        scontrol("nodename=node2", "state=resume")
    assert sorted(len(summary(run)["sessions"]) for run in runs_of(tmp_path).values()) == [1, 2]


def test_ctrl_c_cancels_the_jobs_of_a_sweep(tmp_path) -> None:
    process, wait_for_two = sweep(tmp_path, SEEDS, "epochs=300")
    wait_for_two()
    process.send_signal(signal.SIGINT)
    output = finish(process, 130)
    assert output.count("\ninterrupted: ") == output.count("\nwaiting: ") == 2 and "Traceback" not in output
    assert not tasks("pending,running")


@pytest.mark.full
def test_a_sweep_whose_process_was_killed_is_completed_by_the_same_command(tmp_path) -> None:
    process, wait_for_two = sweep(tmp_path, SEEDS, "epochs=200")
    wait_for_two()
    process.kill()
    process.communicate()
    output = finish(sweep(tmp_path, SEEDS, "epochs=200")[0])
    assert "jobs of a call that is gone are still with SLURM" in output and "4 of 4 jobs finished" in output
    assert sorted(len(summary(run)["sessions"]) for run in runs_of(tmp_path).values()) == [1, 1, 2, 2]
