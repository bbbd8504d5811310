"""A search counts its trials: none is proposed twice and none is lost, whatever was killed and when."""

import signal
import sqlite3
import subprocess
from contextlib import suppress

import optuna
import pytest
from conftest import ROOT, call
from optuna.distributions import CategoricalDistribution, IntUniformDistribution, LogUniformDistribution
from optuna.samplers import GridSampler, NSGAIISampler, RandomSampler, TPESampler
from test_resume import finish, start, wait_for
from test_search import LR, SEARCH, best, runs, trials

from resnet.sweeps.distinct import Distinct

TWO_AT_ONCE = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2")
SPACE = {"optimizer": CategoricalDistribution(["sgd", "adam"]), "width": IntUniformDistribution(8, 24, 8)}


def values(folder) -> list[tuple]:
    """Those of each trial in the study."""
    with sqlite3.connect(folder / "multirun" / "s" / "study.db") as study:
        return study.execute("select trial_id, group_concat(param_name || param_value) from trial_params group by trial_id").fetchall()


def has(folder, pattern, count=1):
    return lambda: len(list((folder / "multirun" / "s").glob(pattern))) >= count


def in_study(folder, count, state):
    """Whether so many trials are in that state; nothing can be read from a study that is being made."""

    def is_so() -> bool:
        with suppress(sqlite3.OperationalError):
            return trials(folder).count(state) >= count
        return False

    return is_so


def kill_worker(process) -> None:
    told = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True).stdout
    worker = next(line for line in told.splitlines() if "popen_loky" in line)
    subprocess.run(["kill", "-KILL", worker.split()[0]], check=True)


def interrupt(process) -> None:
    process.send_signal(signal.SIGINT)


def killed(folder, moment, arguments, kill=subprocess.Popen.kill) -> None:
    process = start(folder, *arguments)
    wait_for(moment(folder), process)
    kill(process)
    process.communicate()
    assert process.returncode in (-signal.SIGKILL, 1, 130)


def check_counts(folder, asked, arguments) -> None:
    """The same command completes the search: as many trials as asked, all different, each with its run."""
    is_parallel = TWO_AT_ONCE[0] in arguments  # whose workers outlive a process that was forked from the tests' own
    output = finish(start(folder, *arguments)) if is_parallel else call(folder, ROOT / "train.py", *arguments).stdout
    assert f"multirun/s: {asked} of {asked} jobs finished\n" in output
    ended = runs(folder)
    assert trials(folder) == ["COMPLETE"] * asked == ["COMPLETE"] * len(ended)
    assert len({told for _, told in values(folder)}) == asked
    assert {run["status"] for run in ended.values()} == {"finished"}
    assert best(folder)["best_value"] == max(run["best"]["val/accuracy"] for run in ended.values())


first_run = lambda folder: has(folder, "*/config.yaml")  # noqa: E731
both_asked = lambda folder: in_study(folder, 2, "RUNNING")  # noqa: E731
first_asked = lambda folder: in_study(folder, 1, "RUNNING")  # noqa: E731
first_ended = lambda folder: in_study(folder, 1, "COMPLETE")  # noqa: E731
first_saved = lambda folder: has(folder, "*/checkpoints/last.pt")  # noqa: E731
second_saved = lambda folder: has(folder, "*/checkpoints/last.pt", 2)  # noqa: E731


@pytest.mark.slow
def test_a_search_that_was_killed_in_its_first_trial_and_in_a_later_one(tmp_path) -> None:
    arguments = (*SEARCH, LR, "epochs=6", "hydra.sweeper.n_trials=3")
    killed(tmp_path, first_run, arguments)
    assert trials(tmp_path) == ["RUNNING"]
    killed(tmp_path, second_saved, arguments)
    check_counts(tmp_path, 3, arguments)
    assert sorted(len(run["sessions"]) for run in runs(tmp_path).values())[-1] == 2


@pytest.mark.full
def test_a_search_of_several_at_once_that_was_killed_in_its_first_batch(tmp_path) -> None:
    arguments = (*SEARCH, LR, "epochs=2", *TWO_AT_ONCE, "hydra.sweeper.n_trials=3")
    killed(tmp_path, first_run, arguments)
    assert trials(tmp_path) == ["RUNNING", "RUNNING"]
    check_counts(tmp_path, 3, arguments)


@pytest.mark.full
@pytest.mark.parametrize(
    ("kills", "more"),
    [
        ([(first_asked, subprocess.Popen.kill)], ()),
        ([(first_asked, subprocess.Popen.kill)] * 2, ()),
        ([(first_saved, subprocess.Popen.kill), (first_run, subprocess.Popen.kill)], ()),
        ([(first_ended, subprocess.Popen.kill)], ()),
        ([(first_run, interrupt), (second_saved, interrupt)], ()),
        ([(both_asked, subprocess.Popen.kill), (second_saved, subprocess.Popen.kill)], TWO_AT_ONCE),
        ([(first_ended, subprocess.Popen.kill)], TWO_AT_ONCE),
        ([(first_run, kill_worker), (first_saved, kill_worker)], TWO_AT_ONCE),
        ([(second_saved, interrupt)], TWO_AT_ONCE),
        ([(first_run, subprocess.Popen.kill)], ("hydra/sweeper/sampler=random",)),
    ],
)
def test_a_search_killed_anywhere_ends_with_as_many_trials_as_asked(tmp_path, kills, more) -> None:
    arguments = (*SEARCH, LR, "epochs=4", "hydra.sweeper.n_trials=4", *more)
    for moment, kill in kills:
        killed(tmp_path, moment, arguments, kill)
    check_counts(tmp_path, 4, arguments)


@pytest.mark.full
def test_fewer_trials_than_have_begun_end_the_search_and_more_go_on_with_it(tmp_path) -> None:
    arguments = (*SEARCH, "lr=0.02,0.05,0.1", "epochs=4", *TWO_AT_ONCE)
    killed(tmp_path, both_asked, (*arguments, "hydra.sweeper.n_trials=3"))
    assert "multirun/s: 1 of 1 jobs finished\n" in finish(start(tmp_path, *arguments, "hydra.sweeper.n_trials=1"))
    check_counts(tmp_path, 3, (*arguments, "hydra.sweeper.n_trials=9"))


def named(chosen) -> str:
    return str(sorted(chosen.items()))


def proposed(sampler, ranges, count) -> list[dict]:
    """The values of so many trials, two at a time; the first choice is the best."""
    study = optuna.create_study(sampler=sampler)
    for _ in range(count // 2):
        pair = [study.ask(), study.ask()]
        for trial in pair:
            for name, distribution in ranges.items():
                trial._suggest(name, distribution)
        for trial in pair:
            study.tell(trial, float(trial.params != study.trials[0].params))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize(
    "inside", [TPESampler(seed=0), RandomSampler(0), NSGAIISampler(seed=0, population_size=2), GridSampler({"width": [8]})]
)
def test_every_sampler_proposes_all_runs_of_a_small_space_once(inside) -> None:
    found = proposed(Distinct(inside, SPACE, named, set(), 0), SPACE, 6)
    assert {(one["optimizer"], one["width"]) for one in found} == {(name, width) for name in ("sgd", "adam") for width in (8, 16, 24)}


def test_values_that_make_a_run_that_was_tried_are_not_new() -> None:
    sampler = Distinct(TPESampler(seed=0), SPACE, lambda chosen: chosen["optimizer"], {"sgd"}, 0)
    study = optuna.create_study(sampler=sampler)
    assert study.ask(SPACE).params["optimizer"] == "adam"


def test_where_nothing_repeats_the_sampler_proposes_what_it_would_alone() -> None:
    ranges = {"lr": LogUniformDistribution(0.01, 1), "decay": LogUniformDistribution(1e-4, 1e-2)}
    alone = proposed(TPESampler(seed=3), ranges, 20)
    assert proposed(Distinct(TPESampler(seed=3), ranges, named, set(), 3), ranges, 20) == alone
