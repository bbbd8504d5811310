"""A search: Optuna proposes the jobs of a sweep. Its study lies in the sweep's folder, and the same command goes on with it."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from filelock import FileLock, Timeout

from resnet.config import Config, UserError
from resnet.config.hashing import identity
from resnet.config.refused import Refused
from resnet.config.refused import told as refused_jobs
from resnet.config.schema import OBJECTIVES
from resnet.runs.directory import LOCK, RunDirectory, shortest
from resnet.sweeps.grid import Job, Sweep, compose_jobs
from resnet.sweeps.preflight import check_models

MADE_WITH = "made_with"  # attribute of a study: what decides the results of its trials


class Search:
    """The trials of a sweep's study."""

    def __init__(self, sweep: Sweep) -> None:
        """Raises UserError where the search has a mistake; nothing is written then."""
        self.sweep, self.settings = sweep, sweep.sweeper
        self.ranges, self.fixed = _parse(sweep.space)
        self._check_settings()
        self.config = self._check_space()

    def _check_settings(self) -> None:
        for key, source in (("n_trials", ""), ("n_jobs", ", like hydra.launcher.n_jobs, which it follows")):
            if self.settings[key] < 1:
                raise UserError(f"hydra.sweeper.{key}={self.settings[key]}: out of range; it must be at least 1{source}")
        if self.settings["storage"] is None:
            raise UserError("hydra.sweeper.storage=null: the study would be lost; choose hydra/sweeper=search")
        if not self.ranges:
            raise UserError("hydra.sweeper.params: nothing to search; give a range, as in 'lr=tag(log,interval(0.01,1))'")

    def _check_space(self) -> Config:
        """The config of all trials but for the ranges; with each end, or choice, of a range it is one that can run."""
        config = self._checked([[]])[0].config
        if self.sweep.settings.preflight:
            self._checked([[f"{name}={value}"] for name, distribution in self.ranges.items() for value in _ends(distribution)])
        assert config is not None
        if config.data.val_size == 0:
            raise UserError("data.val_size=0: a search needs held-out images to judge by; set data.val_size")
        return config

    def _checked(self, choices: Sequence[Sequence[str]]) -> list[Job]:
        jobs = self._compose(choices)
        _, errors = check_models(self.sweep, jobs)
        if lines := dict.fromkeys(line for error in errors for line in error.splitlines()):
            raise UserError("\n".join(lines))
        return jobs

    def _compose(self, choices: Sequence[Sequence[str]]) -> list[Job]:
        return list(compose_jobs(replace(self.sweep, overrides=[[*chosen, *self.fixed] for chosen in choices])))

    @contextmanager
    def open(self) -> Iterator[None]:
        """While open, no other command adds to the study, and Optuna's sweeper is told where it stands."""
        self.sweep.directory.mkdir(parents=True, exist_ok=True)
        where = shortest(self.sweep.directory.resolve())
        try:
            with FileLock(self.sweep.directory / LOCK, timeout=0):
                sys.argv += self._begin(where)
                with self._without_best():
                    yield
        except Timeout:
            raise UserError(f"{where}: another search adds to its study; wait for it, or choose another sweep.name=...") from None

    @contextmanager
    def _without_best(self) -> Iterator[None]:
        """After the last trial the sweeper asks for the best one: where all have failed there is none."""
        try:
            yield
        except ValueError:
            if {trial.state.name for trial in self.study.trials} != {"FAIL"}:
                raise
            raise SystemExit(1) from None

    def _begin(self, where: str) -> list[str]:
        """Opens the study; trials that were interrupted wait for their turn, which comes first. Returns the sweeper's overrides."""
        import optuna
        from optuna.trial import TrialState

        for name in ("alembic", "hydra_plugins.hydra_optuna_sweeper", "optuna"):  # the trials and the closing table tell enough
            logging.getLogger(name).setLevel(logging.ERROR)
        direction = OBJECTIVES[self.sweep.settings.objective]
        study = {"storage": self.settings["storage"], "study_name": self.settings["study_name"]}
        try:
            self.study = optuna.load_study(**study)
        except KeyError:
            self.study = optuna.create_study(**study, direction=direction)
        self._check_same(where)
        interrupted = [trial for trial in self.study.trials if trial.state == TrialState.RUNNING]
        for trial in interrupted:  # Optuna would leave them so for ever, and offers no other way
            self.study._storage.set_trial_state(trial._trial_id, TrialState.WAITING)
        ended = sum(trial.state.is_finished() for trial in self.study.trials)
        print(f"{where}: {self.settings['n_trials']} trials, of which {ended} ended before and {len(interrupted)} were interrupted")
        overrides = [f"hydra.sweeper.n_trials={max(0, self.settings['n_trials'] - ended)}", f"hydra.sweeper.direction={direction}"]
        seed = self.settings["sampler"].get("seed")  # the same seed would propose the first trials again
        return overrides if seed is None else [*overrides, f"hydra.sweeper.sampler.seed={seed + ended}"]

    def _check_same(self, where: str) -> None:
        """Results of different configs, or for different objectives, cannot stand in one study."""
        ranges = {name: repr(distribution) for name, distribution in self.ranges.items()}
        now = {**identity(self.config), **ranges, "sweep.objective": self.sweep.settings.objective}
        before = self.study.user_attrs.get(MADE_WITH, now)
        told = [f"{key}: {before.get(key)} -> {now.get(key)}" for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        if told:
            raise UserError(f"{where}: it holds another search ({'; '.join(told)}); choose another sweep.name=..., nothing was touched")
        self.study.set_user_attr(MADE_WITH, now)

    def jobs(self) -> tuple[dict[str, list[str]], Refused]:
        """The trials that have a run or wait for it, by id with their overrides, and those that could not start, with their mistakes."""
        trials = self.study.trials
        choices = [[f"{name}={value}" for name, value in trial.params.items()] for trial in trials]
        jobs = self._compose(choices)
        refused = [number for number, job in enumerate(jobs) if trials[number].state.name == "FAIL" and not self._has_run(job)]
        _, errors = check_models(self.sweep, [jobs[number] for number in refused])
        notes, told = refused_jobs(self.sweep.directory), Refused()
        for number, error in zip(refused, errors, strict=True):
            name = jobs[number].id
            mistake = error or notes.get(name, [("", "it could not start")])[-1][1]
            told.setdefault(name, []).append((" ".join(choices[number]), mistake))
        return {job.id: job.overrides for number, job in enumerate(jobs) if number not in refused}, told

    def _has_run(self, job: Job) -> bool:
        return RunDirectory(self.sweep.directory / job.id).exists


def _parse(space: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The ranges as Optuna's sweeper reads them, and the overrides that are the same in all trials."""
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    ranges: dict[str, Any] = {}
    fixed: dict[str, str] = {}
    for text in space:  # one by one, so that a mistake can be named
        try:
            found, given = create_params_from_overrides([text])
        except (ValueError, AssertionError, NotImplementedError) as error:
            raise UserError(f"{text}: no range that can be searched ({error})") from None
        ranges |= found
        fixed |= dict.fromkeys(given, text)
    return {name: distribution for name, distribution in ranges.items() if name not in fixed}, list(fixed.values())


def _ends(distribution: Any) -> Sequence[Any]:
    """All choices, or both ends."""
    return distribution.choices if hasattr(distribution, "choices") else (distribution.low, distribution.high)
