"""A search: Optuna proposes the jobs of a sweep. Its study is saved in the sweep's folder, and the same command continues it."""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from filelock import FileLock, Timeout

from resnet.config import Config, UserError
from resnet.config.cli import say
from resnet.config.hashing import identity
from resnet.config.refused import Refused, read_refused
from resnet.interrupt import undone_if_ended
from resnet.record.directory import LOCK, RunDirectory, shortest
from resnet.sweeps.grid import Job, Sweep
from resnet.sweeps.preflight import check_models, job_state
from resnet.sweeps.space import Space, as_overrides
from resnet.sweeps.worker import GRACE, LOOK

MADE_WITH = "made_with"  # attribute of a study: the settings that decide the results of its trials


class Search:
    """The trials of a sweep's study."""

    def __init__(self, sweep: Sweep) -> None:
        """Raises UserError if the search has a mistake; nothing is written before."""
        self.sweep, self.settings = sweep, sweep.sweeper
        self.space = Space(sweep)
        self._check_settings()
        self.config = self._check_space()
        self.asked = self.settings["n_trials"]

    def _check_settings(self) -> None:
        for key, source in (("n_trials", ""), ("n_jobs", ", like hydra.launcher.n_jobs, which it follows")):
            if self.settings[key] < 1:
                raise UserError(f"hydra.sweeper.{key}={self.settings[key]}: out of range; it must be at least 1{source}")
        if self.settings["storage"] is None:
            raise UserError("hydra.sweeper.storage=null: the study would be lost; choose hydra/sweeper=search")
        if not self.space.ranges:
            raise UserError("hydra.sweeper.params: nothing to search; give a range, as in 'lr=tag(log,interval(0.01,1))'")

    def _check_space(self) -> Config:
        """Returns the config that all trials share, without the ranges. Checks that each end, or choice, of a range makes a config that can
        run.
        """
        config = self._checked([[]])[0].config
        if self.sweep.settings.preflight:
            self._checked(self.space.ends())
        assert config is not None
        if config.data.val_size == 0:
            raise UserError("data.val_size=0: a search needs held-out images to judge by; set data.val_size")
        return config

    def _checked(self, choices: Sequence[Sequence[str]]) -> list[Job]:
        jobs = self.space.compose(choices)
        _, errors = check_models(self.sweep, jobs)
        if lines := dict.fromkeys(line for error in errors for line in error.splitlines()):
            raise UserError("\n".join(lines))
        return jobs

    @contextmanager
    def open(self) -> Iterator[list[str]]:
        """Keeps other commands from adding to the study while open. Yields overrides for Optuna's sweeper that continue the study."""
        self.sweep.directory.mkdir(parents=True, exist_ok=True)
        where = shortest(self.sweep.directory.resolve())
        try:
            with FileLock(self.sweep.directory / LOCK, timeout=0):
                with self._taken_back():
                    settings = self._begin(where)
                with self._distinct(), self._without_best(), self._losses_told(where):
                    yield settings
        except Timeout:
            raise UserError(f"{where}: another search adds to its study; wait for it, or choose another sweep.name=...") from None

    @contextmanager
    def _taken_back(self) -> Iterator[None]:
        """If the search ends inside this context, removes its folder, provided that the search made it."""
        is_new = [path.name for path in self.sweep.directory.iterdir()] == [LOCK]
        with undone_if_ended(lambda: shutil.rmtree(self.sweep.directory) if is_new else None, UserError):
            yield

    @contextmanager
    def _losses_told(self, where: str) -> Iterator[None]:
        """Turns errors of the study while trials run, such as a full disk or a locked or removed file, into a message and exit status 1."""
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import DatabaseError

        try:
            yield
        except (DatabaseError, StorageInternalError) as error:
            say(f"{where}: its study cannot be written ({_first_line(error)}); once it can, the same command goes on with it")
            raise SystemExit(1) from None

    @contextmanager
    def _without_best(self) -> Iterator[None]:
        """Handles a search whose trials have all failed: the sweeper asks for the best trial at the end, but there is none."""
        try:
            yield
        except ValueError:
            if sum(trial.state.name == "FAIL" for trial in self._trials()) < self.asked:
                raise
            raise SystemExit(1) from None

    @contextmanager
    def _distinct(self) -> Iterator[None]:
        """Wraps the sampler with which Optuna's sweeper makes the study, so that it proposes nothing twice."""
        import optuna

        from resnet.sweeps.distinct import Distinct

        create, taken = optuna.create_study, {self.space.name(trial.params) for trial in self._trials()}

        def create_study(*, sampler: Any, **settings: Any) -> Any:
            return create(sampler=Distinct(sampler, self.space.ranges, self.space.name, taken, self._seed()), **settings)

        optuna.create_study = create_study  # type: ignore[assignment]
        try:
            yield
        finally:
            optuna.create_study = create

    def _begin(self, where: str) -> list[str]:
        """Opens the study and returns overrides for the sweeper. Interrupted trials are queued to run first."""
        from optuna.trial import TrialState

        for name in ("alembic", "hydra_plugins.hydra_optuna_sweeper", "optuna"):  # the trials and the closing table say enough
            logging.getLogger(name).setLevel(logging.ERROR)
        direction = _direction(self.config)
        self.study = self._opened(where, direction)
        self._check_same(where)
        wanted = self.settings["n_trials"]
        self.asked = self.space.count(wanted)
        if self.asked < wanted:
            print(f"{where}: {wanted} trials were asked for, but the ranges make only {self.asked} different runs, which are all tried")
        ended = {self.space.name(trial.params) for trial in self._trials() if trial.state.is_finished()}
        left = max(0, self.asked - len(ended))
        interrupted = [trial for trial in self.study.trials if not trial.state.is_finished()][:left]
        self._wait_for([self.space.name(trial.params) for trial in self._trials() if trial in interrupted], where)
        for trial in interrupted:  # Optuna would leave them interrupted forever, and has no public way to change that
            self.study._storage.set_trial_state(trial._trial_id, TrialState.WAITING)
        print(f"{where}: {self.asked} trials, of which {len(ended)} ended before and {len(interrupted)} were interrupted")
        overrides = [f"hydra.sweeper.n_trials={left}", f"hydra.sweeper.direction={direction}"]
        return overrides if self._seed() is None else [*overrides, f"hydra.sweeper.sampler.seed={self._seed()}"]

    def _opened(self, where: str, direction: str) -> Any:
        import optuna
        from sqlalchemy.exc import DatabaseError, OperationalError

        study = {"storage": self.settings["storage"], "study_name": self.settings["study_name"]}
        try:
            return optuna.load_study(**study)
        except KeyError:
            return optuna.create_study(**study, direction=direction)
        except (DatabaseError, RuntimeError, optuna.exceptions.StorageInternalError) as error:  # damaged, or of another Optuna version
            is_damaged = not isinstance(error.__cause__, OperationalError) and not isinstance(error, OperationalError)
            what = "move its study.db away to begin anew" if is_damaged else "make it readable and writable, and no other program's"
            raise UserError(f"{where}: its study cannot be read ({_first_line(error)}); {what}") from None

    def _seed(self) -> int | None:
        """Returns a seed that changes with each proposed trial, because the same seed would propose the first trials again."""
        seed = self.settings["sampler"].get("seed")
        return None if seed is None else seed + len(self.study.trials)

    def _trials(self) -> list[Any]:
        """Returns the trials that have all their values. A kill may leave others, for which no run has begun."""
        return [trial for trial in self.study.trials if trial.params.keys() >= self.space.ranges.keys()]

    def _wait_for(self, names: Sequence[str], where: str) -> None:
        """Waits for workers of a killed search, which save before they end."""
        deadline = time.monotonic() + GRACE
        while held := [name for name in names if RunDirectory(self.sweep.directory / name).is_held_elsewhere]:
            if time.monotonic() > deadline:
                raise UserError(f"{where}/{held[0]}: another process is still training it; wait for it, or end it")
            time.sleep(LOOK)

    def _check_same(self, where: str) -> None:
        """Raises UserError if the study holds another search: results of different configs or objectives cannot share a study."""
        ranges = {name: repr(distribution) for name, distribution in self.space.ranges.items()}
        now = {**identity(self.config), **ranges, "choose_by": self.config.choose_by}
        before = self.study.user_attrs.get(MADE_WITH, now)
        told = [f"{key}: {before.get(key)} -> {now.get(key)}" for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        if told:
            raise UserError(f"{where}: it holds another search ({'; '.join(told)}); choose another sweep.name=..., nothing was touched")
        self._check_trials(where)
        self.study.set_user_attr(MADE_WITH, now)

    def _check_trials(self, where: str) -> None:
        """Raises UserError if trials were made with other data, or with other code unless sweep.on_code_change=keep."""
        jobs = self.space.compose([as_overrides(trial.params) for trial in self._trials()])
        try:
            found = [job_state(RunDirectory(self.sweep.directory / job.id), job.config) for job in jobs if job.config is not None]
        except UserError as error:
            raise UserError(f"{where}: a trial: {error}") from None
        other = [modules for _, modules in found if modules]
        if not other:
            return
        told = f"{where}: {len(other)} of its trials were made by other code ({', '.join(sorted(set().union(*other)))} changed since)"
        if self.sweep.settings.on_code_change != "keep":
            raise UserError(
                f"{told}; a search trains none again: sweep.on_code_change=keep counts them as they are, another sweep.name=... starts anew"
            )
        print(f"{told}, and count as they are")

    def jobs(self) -> tuple[dict[str, list[str]], Refused, int]:
        """Returns three things: the overrides by id of trials that have a run or wait for one, the trials that could not start with their
        mistakes, and the number of trials asked for.
        """
        trials = sorted(self._trials(), key=lambda trial: not trial.state.is_finished())
        ended = sum(trial.state.is_finished() for trial in trials)
        trials = trials[: max(self.asked, ended)]
        choices = [as_overrides(trial.params) for trial in trials]
        jobs = self.space.compose(choices)
        refused = [number for number, job in enumerate(jobs) if trials[number].state.name == "FAIL" and not self._has_run(job)]
        _, errors = check_models(self.sweep, [jobs[number] for number in refused])
        notes, told = read_refused(self.sweep.directory), Refused()
        for number, error in zip(refused, errors, strict=True):
            name = jobs[number].id
            mistake = error or notes.get(name, [("", "it could not start")])[-1][1]
            told.setdefault(name, []).append((" ".join(choices[number]), mistake))
        return {job.id: job.overrides for number, job in enumerate(jobs) if number not in refused}, told, self.asked

    def _has_run(self, job: Job) -> bool:
        return RunDirectory(self.sweep.directory / job.id).exists


def _direction(config: Config) -> str:
    from resnet.build import how_read

    return how_read(config)[config.choose_by.removeprefix("val/")]["direction"]


def _first_line(error: Exception) -> str:
    return str(getattr(error.__cause__, "orig", None) or getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
