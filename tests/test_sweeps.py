"""A sweep checks itself first, loses no job and does none twice."""

import json
import os
import random
import signal
import time

import pytest
from conftest import PATIENCE, call, compose
from filelock import FileLock
from test_resume import finish, start, wait_for
from test_run import inspect, records, rows, summary

from resnet.config import config_hash
from resnet.record.directory import RunDirectory
from resnet.sweeps.grid import compose_jobs, read_sweep

GRID = ("-m", "data=digits", "epochs=2", "model.layers=[1],[1,1]", "optimizer=sgd,adam", "sweep.name=s")


def runs(folder):
    return {path.parent.name: summary(path.parent) for path in (folder / "multirun" / "s").glob("*/summary.json")}


def test_a_grid_composed_at_once_is_the_one_that_hydra_composes() -> None:
    grid = ["-m", "data=digits", "optimizer=sgd,adam", "lr=0.1,1", "model=resnet20,plain20", "model.layers=[1,1],[2]", "seed=range(2)"]
    sweep = read_sweep([*grid, "++data.val_size=100", "sweep.name=s"])
    jobs = list(compose_jobs(sweep))
    assert len(jobs) == 32 and len({job.id for job in jobs}) == 32
    for job in jobs[::5]:
        assert job.config is not None
        assert config_hash(job.config) == config_hash(compose(*job.overrides))


def test_mistakes_of_all_jobs_come_together_and_nothing_starts(train, tmp_path) -> None:
    before = list(tmp_path.iterdir())
    error = train("-m", "model.block=basic,basc", "lr=0.1,-1", "modl.width=3", "data=digits", status=2).stderr
    assert "did you mean model.width" in error
    assert "modl.width: unknown key (did you mean model.width?)" in train("-m", "modl.width=8,16", "data=digits", status=2).stderr
    error = train("-m", "model.block=basic,basc", "lr=0.1,-1", "data=digits", status=2).stderr
    assert "jobs 1, 3 (model.block=basic lr=-1 data=digits): lr=-1.0: out of range" in error
    assert "did you mean basic?" in error and "4 jobs, mistakes in 3 of them" in error
    error = train("-m", "model.layers=[1],[1,1,1,1,1]", "data=digits", status=2).stderr
    assert "too small for 5 stages" in error and "2 jobs, mistakes in 1 of them" in error
    error = train("-m", "optimizer.momentum=0.9,-1", "data=digits", status=2).stderr
    assert "job 1 (optimizer.momentum=-1 data=digits): optimizer: torch.optim.SGD refuses its settings" in error
    assert list(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_the_same_command_skips_what_is_finished_and_a_larger_grid_adds_to_it(train, tmp_path) -> None:
    (tmp_path / "wandb" / "offline-run-20260101_000000-aaaaaaaa").mkdir(parents=True)  # of another run
    first = train(*GRID).stdout
    assert "multirun/s: 4 of 4 jobs finished" in first and first.count("waiting") == 4 and "wandb" not in first
    assert "report: multirun/s/report.html" in first and 'data-run="3"' in (tmp_path / "multirun" / "s" / "report.html").read_text()
    told = runs(tmp_path)
    larger = train(*GRID, "seed=0,1").stdout
    assert "multirun/s: 8 of 8 jobs finished" in larger and larger.count("this run is finished") == 4
    again = runs(tmp_path)
    assert len(again) == 8 and {name: again[name] for name in told} == told
    twice = train(*GRID[:-1], "sweep.name=t", "model.width=4,4").stdout
    assert "twice, run once: " in twice and "4 of 4 jobs finished" in twice


@pytest.mark.slow
def test_a_failed_job_is_named_and_tried_again(train, tmp_path) -> None:
    grid = ("-m", "data=digits", "epochs=2", "model.layers=[1]", "model.norm=none", "lr=0.01,1e30,0.02", "sweep.name=s")
    done = train(*grid, status=1)
    assert "multirun/s: 2 of 3 jobs finished" in done.stdout and "failed: " in done.stdout and "not finite at step" in done.stdout
    train(*grid, status=1)
    assert sorted(len(run["sessions"]) for run in runs(tmp_path).values()) == [1, 1, 2]
    none = train(*grid[:4], "model.norm=none", "lr=1e30", "sweep.name=u", status=1).stdout
    assert "0 of 1 jobs finished" in none and "report: none: no run has finished" in none
    stopped = train(*grid[:-1], "sweep.name=t", "sweep.on_failure=stop", status=1).stdout
    assert "1 of 3 jobs finished" in stopped and "waiting: " in stopped


FAILING = """
import torch

class Failing(torch.optim.lr_scheduler.ConstantLR):
    def step(self):
        super().step()
        size = sum(parameter.numel() for group in self.optimizer.param_groups for parameter in group["params"])
        if size > 20_000 and isinstance(self.optimizer, torch.optim.Adam) and torch.initial_seed() == 1 and self.last_epoch == 15:
            raise ValueError("its disk is gone")
"""
TWELVE = ("-m", "data=digits", "epochs=5", "log_every=4", "checkpoint.every_steps=7", "scheduler=constant", "sweep.name=s")
TWELVE += ("scheduler._target_=failing.Failing", "model.layers=[1],[2],[1,1]", "optimizer=sgd,adam", "seed=0,1")


def kill_at_random(folder, chance, *arguments) -> None:
    """The whole sweep's process, after one more of its jobs has started, or gone on; its workers end by themselves."""
    before = sum(len(run["sessions"]) for run in runs(folder).values())
    process = start(folder, *arguments)
    wait_for(lambda: sum(len(run["sessions"]) for run in runs(folder).values()) > before, process)
    time.sleep(chance.uniform(0, 1.5))
    process.kill()
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while not are_free(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.returncode == -signal.SIGKILL and are_free(folder)


def are_free(folder) -> bool:
    return not any(run.is_held_elsewhere for run in (RunDirectory(path) for path in (folder / "multirun" / "s").glob("*")))


@pytest.mark.full
@pytest.mark.parametrize(("launcher", "kills"), [("parallel", 1), ("parallel", 3), ("basic", 3)])
def test_a_killed_sweep_is_completed_by_the_same_command(tmp_path, launcher, kills) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    arguments = (*TWELVE, f"hydra/launcher={launcher}", "wandb.mode=offline")
    chance, finished = random.Random(launcher), {}
    for _ in range(kills):
        kill_at_random(tmp_path, chance, *arguments)
        now = {name: run for name, run in runs(tmp_path).items() if run["status"] == "finished"}
        assert finished.items() <= now.items()  # not one of them was touched again
        finished = now
    output = finish(start(tmp_path, *arguments), 1)
    ended = runs(tmp_path)
    assert finished.items() <= ended.items() and len(finished) < 11
    (failed,) = (name for name, run in ended.items() if run["status"] != "finished")
    assert "multirun/s: 11 of 12 jobs finished" in output and output.count("\nfailed: ") == 1
    assert "report: multirun/s/report.html" in output and "wandb leet wandb; upload: wandb sync" in output
    assert f"failed: {failed} model.layers=[1,1] optimizer=adam seed=1: ValueError: its disk is gone" in output
    for name, run in ended.items():
        rows_of_run = [int(row["step"]) for row in rows(tmp_path / "multirun" / "s" / name)]
        assert rows_of_run == [step for step in range(1, 56 if name != failed else 15) if step % 4 == 0 or step % 11 == 0]
        starts = [session["step"] for session in run["sessions"]]
        assert starts == sorted(starts) and starts[0] == 0
    assert_compared(call(tmp_path, "-m", "resnet", "compare", "multirun/s", "--json").stdout, failed)
    assert_mirrored(tmp_path, ended)
    if launcher == "parallel":  # each job in its own log, not on the screen
        assert "test accuracy:" not in output
        logs = {name: (tmp_path / "multirun" / "s" / "logs" / f"{name}.log").read_text() for name in ended}
        # One that was killed right after its summary was written says at the next start that it is finished, without the colon.
        assert all(("test accuracy" in text) == (name != failed) for name, text in logs.items())


def assert_compared(text, failed) -> None:
    told = json.loads(text)
    sizes = {tuple(group["differing"].values()): group["n"] for group in told["groups"]}
    assert len(sizes) == 6 and sum(sizes.values()) == 11
    assert told["left_out"] == [f"multirun/s/{failed}: failed: ValueError: its disk is gone"]


def assert_mirrored(folder, ended) -> None:
    """One W&B run for each job, whose name and tags say what it is, in the sweep's group, with the best and the last value."""
    files = list((folder / "wandb").glob("offline-run-*/*.wandb"))
    jobs = {run["wandb_run"]: run for run in ended.values()}
    assert len(files) == len(jobs) == 12
    for file in files:
        record = inspect(file)
        run = jobs.pop(record["run_id"])
        is_finished = run["status"] == "finished"
        assert record["exit_code"] == (0 if is_finished else 1) and record["summary"]["status"] == run["status"]
        chosen = dict(text.split("=", 1) for text in run["overrides"])
        assert record["name"] == f"layers={chosen['model.layers']} optimizer={chosen['optimizer']} seed={chosen['seed']}"
        assert record["tags"] == run["overrides"]
        assert record["config"]["wandb"]["group"] == "s"
        swept = {text.partition("=")[0] for text in run["overrides"]}
        assert {"model.layers", "optimizer", "seed"} <= swept and record["config"]["seed"] == run["seed"]
        if is_finished:
            accuracy = record["summary"]["val/accuracy"]
            assert (accuracy["max"], accuracy["last"]) == (run["best"]["val/accuracy"], run["last"]["val/accuracy"])
    assert (
        next(item["run"]["run_group"] for item in records(files[0]) if item["type"] == "run") == "s"
    )  # W&B's own, of which inspect is silent


@pytest.mark.slow
def test_ctrl_c_ends_the_running_job_and_leaves_the_rest(tmp_path) -> None:
    process = start(tmp_path, *GRID, "epochs=300")
    wait_for(lambda: any(run["status"] == "running" for run in runs(tmp_path).values()), process)
    wait_for(lambda: bool(list((tmp_path / "multirun" / "s").glob("*/checkpoints/last.pt"))), process)
    process.send_signal(signal.SIGINT)
    output = finish(process, 130)
    assert "interrupted: " in output and output.count("waiting: ") == 3
    assert [run["status"] for run in runs(tmp_path).values()] == ["interrupted"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 75, marks=pytest.mark.full)])
def test_a_signal_to_a_parallel_sweep_lets_its_jobs_save(tmp_path, number, status) -> None:
    process = start(tmp_path, *GRID, "epochs=300", "eval_every=300", "hydra/launcher=parallel")
    wait_for(lambda: len(running := list(runs(tmp_path).values())) == 2 and all(run["status"] == "running" for run in running), process)
    time.sleep(1)
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(number)  # a copy, as a launcher passes it on
    output = finish(process, status)
    assert output.count("\ninterrupted: ") == output.count("\nwaiting: ") == 2 and "optimizer=adam" in output and "Traceback" not in output
    told = [json.loads(path.read_text()) for path in (tmp_path / "multirun" / "s").glob("*/summary.json")]
    assert [run["status"] for run in told] == ["interrupted"] * 2  # as it is written down, not as a reader concludes
    assert len(list((tmp_path / "multirun" / "s").glob("*/checkpoints/last.pt"))) == 2


@pytest.mark.full
def test_a_job_that_another_command_trains_is_told_by_its_state(train, tmp_path) -> None:
    """It could start, only not here."""
    grid = ("-m", "data=digits", "model.layers=[1]", "model.width=4", "seed=0,1", "sweep.name=s")
    train(*grid, "epochs=1")
    first, _ = sorted((tmp_path / "multirun" / "s").glob("*/summary.json"))
    first.write_text(json.dumps({**json.loads(first.read_text()), "status": "running"}))
    with FileLock(first.parent / ".lock"):
        done = train(*grid, "epochs=1", status=1)
    assert "another process is training into it" in done.stderr and "could not start" not in done.stdout
    assert f"running: {first.parent.name}" in done.stdout and "1 of 2 jobs finished; the same command" in done.stdout
    assert "2 of 2 jobs finished" in train(*grid, "epochs=1").stdout


@pytest.mark.slow
def test_a_killed_worker_of_a_parallel_sweep_is_told_with_the_table(tmp_path) -> None:
    (tmp_path / "failing.py").write_text(KILLED)
    grid = ("-m", "data=digits", "model.layers=[1]", "epochs=3", "seed=0,1", "sweep.name=s", "hydra/launcher=parallel")
    output = finish(start(tmp_path, *grid, "scheduler=constant", "scheduler._target_=failing.Killed"), 1)
    assert "error: a job's process was killed (SIGKILL), and joblib ended the others with it" in output and "Traceback" not in output
    assert "interrupted: " in output and "its process ended without a word" in output and "0 of 2 jobs finished" in output
    (tmp_path / "well").touch()
    assert "2 of 2 jobs finished" in finish(start(tmp_path, *grid, "scheduler=constant", "scheduler._target_=failing.Killed"))


KILLED = """
import os, torch

class Killed(torch.optim.lr_scheduler.ConstantLR):
    def step(self):
        super().step()
        if not os.path.exists("well") and self.last_epoch == 15:
            os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_ready_sweep_and_its_objective(train) -> None:
    output = train("sweep=seeds", "data=digits", "epochs=1", "model.layers=[1]", "choose_by=val/loss", "hydra.sweep.dir=here").stdout
    assert "here: 5 of 5 jobs finished" in output and "held-out loss" in output
    error = train("sweep=seeds", "choose_by=test/accuracy", status=2).stderr
    assert "choose_by=test/accuracy: no such choice" in error and "val/macro_f1" in error


@pytest.mark.parametrize(("n_jobs", "is_parallel"), [(1, False), (2, True)])
def test_a_single_job_at_once_is_run_here_with_its_output_on_the_screen(n_jobs, is_parallel) -> None:
    sweep = read_sweep(["-m", "hydra/launcher=parallel", f"hydra.launcher.n_jobs={n_jobs}", "seed=0,1"])
    assert sweep.is_parallel is is_parallel


@pytest.mark.full
@pytest.mark.parametrize(
    ("given", "per_gpu", "gpus"),
    [(None, 1, {"0", "1"}), ("3", 2, {"3"})],
    ids=["two GPUs", "two jobs on one"],
)
def test_gpus_are_dealt_out(tmp_path, monkeypatch, given, per_gpu, gpus) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-0)'\necho 'GPU 1: A (UUID: GPU-1)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    arguments = (*GRID, "hydra/launcher=parallel", "fabric.accelerator=cpu", f"sweep.jobs_per_gpu={per_gpu}", "epochs=15")
    process = start(tmp_path, *arguments)
    at_once: set[str] = set()
    while process.poll() is None:
        at_once = max(at_once, {name for name, run in runs(tmp_path).items() if run["status"] == "running"}, key=len)
        time.sleep(0.02)
    assert "4 of 4 jobs finished" in finish(process)
    logs = {path.stem: path.read_text().splitlines()[0] for path in (tmp_path / "multirun" / "s" / "logs").glob("*.log")}
    assert len(logs) == 4 and set(logs.values()) == {f"CUDA_VISIBLE_DEVICES={gpu}" for gpu in gpus}
    assert len(at_once) == 2 and {logs[name] for name in at_once} == set(logs.values())


@pytest.mark.slow
def test_the_same_sweep_twice_at_once_does_every_job_once(tmp_path) -> None:
    processes = [start(tmp_path, *GRID, "epochs=20") for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    ended = runs(tmp_path)
    assert [run["status"] for run in ended.values()] == ["finished"] * 4, outputs
    assert [len(run["sessions"]) for run in ended.values()] == [1] * 4
