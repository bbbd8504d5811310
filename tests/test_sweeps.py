"""A sweep checks itself first, loses no job and does none twice."""

import random
import signal
import time

import pytest
from conftest import ROOT, call, compose
from test_resume import finish, start, wait_for
from test_run import inspect, summary

from resnet.config import config_hash
from resnet.runs.directory import RunDirectory
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
    first = train(*GRID).stdout
    assert "multirun/s: 4 of 4 jobs finished" in first and first.count("waiting") == 4
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
    stopped = train(*grid[:-1], "sweep.name=t", "sweep.on_failure=stop", status=1).stdout
    assert "1 of 3 jobs finished" in stopped and "waiting: " in stopped


@pytest.mark.slow
def test_a_killed_sweep_is_completed_by_the_same_command(tmp_path) -> None:
    chance = random.Random(0)
    for _ in range(3):
        process = start(tmp_path, *GRID, "wandb.mode=offline", "epochs=6")
        before = sum(len(run["sessions"]) for run in runs(tmp_path).values())
        wait_for(lambda: sum(len(run["sessions"]) for run in runs(tmp_path).values()) > before, process)  # noqa: B023
        time.sleep(chance.uniform(0, 1.5))
        process.kill()
        process.communicate()
    once = {name: run for name, run in runs(tmp_path).items() if run["status"] == "finished"}
    output = call(tmp_path, ROOT / "train.py", *GRID, "wandb.mode=offline", "epochs=6").stdout
    assert "multirun/s: 4 of 4 jobs finished" in output
    ended = runs(tmp_path)
    assert {name: ended[name] for name in once} == once
    files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 4 and all(inspect(file)["exit_code"] == 0 for file in files)


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
def test_a_ready_sweep_and_its_objective(train) -> None:
    output = train("sweep=seeds", "data=digits", "epochs=1", "model.layers=[1]", "sweep.objective=val/loss").stdout
    assert "multirun/seeds: 5 of 5 jobs finished" in output and "held-out loss" in output
    assert "choose one of val/accuracy, val/loss" in train("sweep=seeds", "sweep.objective=test/accuracy", status=2).stderr


def are_free(folder) -> bool:
    return not any(run.is_held_elsewhere for run in (RunDirectory(path) for path in (folder / "multirun" / "s").glob("*")))


@pytest.mark.slow
def test_parallel_jobs_have_their_own_logs_and_end_with_a_killed_parent(tmp_path) -> None:
    arguments = (*GRID, "hydra/launcher=parallel", "epochs=60", "wandb.mode=offline")
    process = start(tmp_path, *arguments)
    wait_for(lambda: len(list((tmp_path / "multirun" / "s").glob("*/checkpoints/last.pt"))) >= 2, process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while not are_free(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert are_free(tmp_path)  # no worker of the first call still writes
    before = {name: run for name, run in runs(tmp_path).items() if run["status"] == "finished"}
    assert len(before) < 4
    output = finish(start(tmp_path, *arguments))
    assert "multirun/s: 4 of 4 jobs finished" in output and "test accuracy:" not in output
    ended = runs(tmp_path)
    assert {name: ended[name] for name in before} == before
    for name in ended:
        assert "test accuracy:" in (tmp_path / "multirun" / "s" / "logs" / f"{name}.log").read_text()
    files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 4 and all(inspect(file)["exit_code"] == 0 for file in files)


@pytest.mark.slow
def test_the_same_sweep_twice_at_once_does_every_job_once(tmp_path) -> None:
    processes = [start(tmp_path, *GRID, "epochs=20") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    ended = runs(tmp_path)
    assert [run["status"] for run in ended.values()] == ["finished"] * 4, outputs
    assert [len(run["sessions"]) for run in ended.values()] == [1] * 4
