"""A search looks for the held-out metric, survives its trials and a kill; W&B's agent starts what its file says."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from test_run import inspect, summary

SEARCH = ("-m", "hydra/sweeper=search", "data=digits", "model.layers=[1]", "model.width=8", "sweep.name=s")
FILE = yaml.safe_load((ROOT / "wandb_sweep.yaml").read_text())
LR = "lr=tag(log,interval(0.01,0.5))"


def trials(folder) -> list[str]:
    """The states of the study's trials."""
    with sqlite3.connect(folder / "multirun" / "s" / "study.db") as study:
        return [state for (state,) in study.execute("select state from trials order by number")]


def runs(folder):
    return {path.parent.name: summary(path.parent) for path in (folder / "multirun" / "s").glob("*/summary.json")}


def best(folder):
    return yaml.safe_load((folder / "multirun" / "s" / "optimization_results.yaml").read_text())


@pytest.mark.slow
def test_failed_trials_are_named_and_a_search_ends_where_all_its_runs_are_tried(train, tmp_path) -> None:
    space = ("lr=0.01,1e30", "model.layers=[1],[1,1,1,1,1]", "scheduler=constant", "max_steps=1", "sweep.preflight=false")
    done = train(*SEARCH[:3], "sweep.name=s", *space, "hydra.sweeper.n_trials=8", status=1)
    assert "8 trials were asked for, but the ranges make only 4 different runs" in done.stdout
    assert "multirun/s: 1 of 4 jobs finished\n" in done.stdout
    assert sorted(trials(tmp_path)) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    assert best(tmp_path)["best_params"] == {"lr": 0.01, "model.layers": "[1]"}
    told = done.stdout.split("held-out accuracy")[-1]
    assert "the held-out loss was not finite" in told and "images of 8 pixels are too small for 5 stages" in told
    assert sorted(run["status"] for run in runs(tmp_path).values()) == ["failed", "finished"]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_study_that_cannot_be_read_is_named(train, tmp_path) -> None:
    (tmp_path / "multirun" / "s").mkdir(parents=True)
    (tmp_path / "multirun" / "s" / "study.db").write_text("no database")
    error = train(*SEARCH, LR, status=2).stderr
    assert error.startswith("error: multirun/s: its study cannot be read (") and len(error.splitlines()) == 1
    assert "move its study.db away" in error


def test_a_study_that_cannot_be_opened_is_not_taken_for_a_damaged_one_and_no_folder_is_left(train, tmp_path) -> None:
    error = train(*SEARCH, LR, "hydra.sweeper.storage=sqlite:///nowhere/study.db", status=2).stderr
    assert "(unable to open database file); make it readable and writable" in error and len(error.splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_where_all_trials_fail_the_closing_table_says_so(train, tmp_path) -> None:
    done = train(*SEARCH, "lr=1e30,1e31", "scheduler=constant", "max_steps=1", "hydra.sweeper.n_trials=2", status=1)
    assert "multirun/s: 0 of " in done.stdout and "report: none: no run has finished" in done.stdout
    assert trials(tmp_path) == ["FAIL", "FAIL"] and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_loss_is_minimised_and_no_other_search_gets_into_its_study(train, tmp_path) -> None:
    arguments = (*SEARCH, "epochs=2", "hydra.sweeper.n_trials=3")
    output = train(*arguments, LR, "choose_by=val/loss").stdout
    losses = {name: run["best"]["val/loss"] for name, run in runs(tmp_path).items()}
    assert len(set(losses.values())) == 3
    assert best(tmp_path)["best_value"] == min(losses.values())
    assert re.findall(r"^[123] +(\w{8}) ", output, re.MULTILINE) == sorted(losses, key=losses.__getitem__)
    before = runs(tmp_path)
    assert "3 of 3 jobs finished" in train(*arguments, LR, "choose_by=val/loss").stdout and runs(tmp_path) == before
    for other, told in (
        ((LR,), "choose_by: val/loss -> val/accuracy"),
        ((LR, "choose_by=val/loss", "batch_size=64"), "batch_size: 128 -> 64"),
        (("lr=0.1,0.2", "choose_by=val/loss"), "lr: LogUniformDistribution"),
    ):
        assert f"error: multirun/s: it holds another search ({told}" in train(*arguments, *other, status=2).stderr
    assert trials(tmp_path) == ["COMPLETE"] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lr=interval(-1,1)",), "lr=-1.0: out of range; it must be above 0"),
        (("model.wdth=interval(0,1)",), "model.wdth: unknown key (did you mean model.width?)"),
        (("lr=interval(2,1)",), "lr=interval(2,1): no range that can be searched"),
        (("lr=intervall(1,2)",), "cannot be read"),
        (("model.block=basic,basc",), "did you mean basic?"),
        ((), "hydra.sweeper.params: nothing to search"),
        ((LR, "data.val_size=0"), "data.val_size=0: a search needs held-out images"),
        ((LR, "hydra.sweeper.n_trials=0"), "hydra.sweeper.n_trials=0: out of range"),
        ((LR, "hydra.sweeper.n_trials=many"), "hydra.sweeper.n_trials=many: "),
        ((LR, "choose_by=test/accuracy"), "choose_by=test/accuracy: no such choice (did you mean val/accuracy?)"),
    ],
)
def test_a_mistake_in_a_search_is_one_line(train, tmp_path, arguments, message) -> None:
    error = train(*SEARCH, *arguments, status=2).stderr
    assert message in error and len(error.splitlines()) == 1 and error.startswith("error: ")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("plugin", "choice", "extra"),
    [("hydra_optuna_sweeper", "sweep=search", "search"), ("hydra_submitit_launcher", "hydra/launcher=slurm", "slurm")],
)
def test_a_missing_extra_is_named(train, tmp_path, plugin, choice, extra) -> None:
    (tmp_path / "hydra_plugins" / plugin).mkdir(parents=True)
    (tmp_path / "hydra_plugins" / plugin / "__init__.py").touch()  # in place of the one that is installed
    error = train("-m", choice, "data=digits", status=2).stderr
    assert f"it is not installed; pip install -e '.[{extra}]'" in error and len(error.splitlines()) == 1


class Started:
    """In place of the agent's process: what it would have started."""

    def __init__(self, command, env, **_) -> None:
        self.command, self.environment = command, env


def agents_process(folder, monkeypatch, choose) -> Started:
    """What W&B's agent makes of our file and of the values that W&B's server proposes."""
    from wandb import wandb_agent

    monkeypatch.chdir(folder)
    for name, value in (("SWEEP_ID", "abc"), ("RUN_ID", ""), ("SWEEP_PARAM_PATH", ""), ("DIR", str(folder))):
        monkeypatch.setenv(f"WANDB_{name}", value)  # those that the agent sets are taken back after the test
    monkeypatch.setattr(wandb_agent, "AgentProcess", Started)
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
    agent._sweep_command = list(FILE["command"])
    arguments = {key: {"value": choose(space)} for key, space in FILE["parameters"].items()}
    agent._command_run({"type": "run", "run_id": "r1d2", "program": FILE["program"], "args": arguments})
    return agent._run_processes["r1d2"]


@pytest.mark.slow
def test_the_command_of_wandbs_agent_runs(tmp_path, monkeypatch) -> None:
    for name in ("train.py", "conf"):  # the agent is started beside them
        (tmp_path / name).symlink_to(ROOT / name)
    process = agents_process(tmp_path, monkeypatch, lambda space: space["values"][0] if "values" in space else space["min"])
    assert process.command[1:4] == ["python", "train.py", "wandb=online"]
    environment = {**process.environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [*process.command, "wandb.mode=offline", "epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    run = summary(tmp_path / "outputs" / "wandb_sweep" / "r1d2")
    assert run["status"] == "finished" and run["wandb_run"] == "r1d2"
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    told = inspect(file)
    assert file.name == "run-r1d2.wandb" and told["exit_code"] == 0
    config = told["config"]
    assert (config["lr"], config["optimizer"]["weight_decay"], config["model"]["width"]) == (0.02, 0.0001, 8)
    assert config["model"]["layers"] == [1, 1, 1] and config["data"]["name"] == "digits"
    assert FILE["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    assert told["summary"]["val/accuracy"]["max"] == run["best"]["val/accuracy"]


def test_both_searches_have_one_space() -> None:
    """In the words of W&B's file and of Hydra's."""
    ranges = {"log_uniform_values": "tag(log,interval({min},{max}))", "int_uniform": "int(interval({min},{max}))"}
    told = {
        key: ranges[space["distribution"]].format(**space) if "distribution" in space else ",".join(map(str, space["values"]))
        for key, space in FILE["parameters"].items()
    }
    params = yaml.safe_load((ROOT / "conf" / "sweep" / "search.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert {key: text.replace(" ", "") for key, text in told.items()} == params


LOCKING = """
import os, sqlite3, torch

class Locking(torch.optim.SGD):
    def step(self, closure=None):
        if not os.path.exists("locked"):
            open("locked", "w").close()
            Locking.study = sqlite3.connect("multirun/s/study.db")
            Locking.study.execute("begin exclusive")
        return super().step(closure)
"""


@pytest.mark.full
def test_a_study_that_is_locked_while_trials_run_is_gone_on_with(train, tmp_path) -> None:
    (tmp_path / "locking.py").write_text(LOCKING)
    arguments = (*SEARCH, LR, "epochs=1", "optimizer._target_=locking.Locking", "optimizer.fused=false", "hydra.sweeper.n_trials=2")
    done = train(*arguments, status=1)
    assert done.stderr.endswith(
        "error: multirun/s: its study cannot be written (database is locked); once it can, the same command goes on with it\n"
    )
    assert "Traceback" not in done.stderr and "2 of 2 jobs finished" in train(*arguments).stdout
