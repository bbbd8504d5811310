"""Checks all jobs of a grid before the first starts, shows them and estimates their time. With any mistake, no job starts."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from resnet.config import Config, UserError
from resnet.config.compose import as_given
from resnet.record.content import other_code
from resnet.record.directory import FINISHED, UNREADABLE, WAITING, RunDirectory
from resnet.record.identity import OTHER_CODE, check_content
from resnet.record.lines import count, duration
from resnet.record.reading import Unreadable
from resnet.record.screen import cell, screen, table
from resnet.sweeps.gpus import visible_gpus
from resnet.sweeps.grid import Job, Sweep, compose_jobs, differing

if TYPE_CHECKING:
    from torch import nn

    from resnet.data import DataSet, Size

MOST_ROWS = 40  # rows of the table
BETWEEN = 1.0  # seconds that a job takes before its first step and after its last


@dataclass(frozen=True)
class Checked:
    """A job that can run."""

    job: Job
    parameters: int
    flops: int  # in training and evaluation
    state: str


def preflight(sweep: Sweep) -> dict[str, list[str]]:
    """Returns the overrides of the distinct jobs by id. Raises UserError with the mistakes of all jobs."""
    jobs = list(compose_jobs(sweep))
    _raise_mistakes(jobs, [job.error for job in jobs])
    checked, errors = check_models(sweep, jobs)  # duplicates too: their devices may differ
    _raise_mistakes(jobs, errors)
    distinct = {job.id: job for job in reversed(jobs)}
    checked = [one for one in checked if distinct[one.job.id] is one.job]
    _show(checked, [job for job in jobs if distinct[job.id] is not job], _seconds(sweep, checked))
    return {one.job.id: one.job.overrides for one in checked}


def _raise_mistakes(jobs: Sequence[Job], errors: Sequence[str]) -> None:
    """Raises UserError with one line per mistake, which names the jobs that make it."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, error in enumerate(errors):
        for line in error.splitlines():
            found[line].append(number)
    if found:
        lines = [f"{_numbers(numbers)} ({' '.join(as_given(jobs[numbers[0]].overrides))}): {line}" for line, numbers in found.items()]
        raise UserError("\n".join([*lines, f"nothing was started: {len(jobs)} jobs, mistakes in {sum(map(bool, errors))} of them"]))


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"job{'s' if len(numbers) > 1 else ''} {shown}{' and more' if len(numbers) > 8 else ''}"


def check_models(sweep: Sweep, jobs: Sequence[Job]) -> tuple[list[Checked], list[str]]:
    """Tries each distinct model, optimizer with schedule, weights file and device once, and reads each distinct data set.

    Returns the jobs that can run, and one error per job, empty if there is none.
    """
    parts = Parts(has_its_devices=sweep.launcher != "SlurmLauncher")
    checked, errors = [], []
    for job in jobs:
        error = job.error
        if job.config is not None:
            try:
                state = _state(RunDirectory(sweep.directory / job.id), job.config)
                checked.append(Checked(job, *parts.sizes(job.config), state))
            except UserError as mistake:
                error = str(mistake)
        errors.append(error)
    return checked, errors


def job_state(run: RunDirectory, config: Config) -> tuple[str, list[str]]:
    """Returns a job's status and, if it is finished, the modules that have changed since. Raises UserError if its data have changed."""
    from resnet.facts import made_of

    if not run.exists:
        return WAITING, []
    try:
        summary, now = run.summary, made_of(config)
    except Unreadable:  # the job itself is refused for this; the other jobs go on
        return UNREADABLE, []
    is_finished = summary["status"] == FINISHED
    check_content(run, summary, now, goes_on=not is_finished)
    return summary["status"], other_code(summary, now) if is_finished else []


def _state(run: RunDirectory, config: Config) -> str:
    status, modules = job_state(run, config)
    if not modules:
        return status
    if config.sweep.on_code_change == "refuse":
        raise UserError(OTHER_CODE.format(", ".join(modules)))
    return f"{status if config.sweep.on_code_change == 'keep' else 'again'}: {', '.join(modules)} changed"


class Parts:
    """The parts of all jobs, each tried once. Models and optimizers are on the meta device, which needs no memory for weights."""

    def __init__(self, has_its_devices: bool) -> None:
        self.has_its_devices = has_its_devices  # True if the jobs run on this machine
        self.models: dict[str, tuple[nn.Module, int]] = {}  # with the operations per image
        self.tried: set[str] = set()

    def sizes(self, config: Config) -> tuple[int, int]:
        """Returns the number of parameters, and the operations of training and evaluation. Raises UserError if a part has a mistake."""
        from resnet import build
        from resnet.build_data import build_data, check_held_out, check_size, steps_per_epoch
        from resnet.build_fabric import make_fabric
        from resnet.build_model import build_model
        from resnet.build_weights import load_weights

        data = build_data(config)
        check_held_out(config, data)
        size = check_size(config, data)
        model, flops = self._model(config, data, size)
        steps = steps_per_epoch(config, data)
        plan = build.build_plan(config, steps)
        schedule = config.optimizer, config.scheduler, plan.total_steps, config.model, config.fabric.precision
        self._once(lambda: build.try_optimizer(config, deepcopy(model), plan), *schedule)
        self._once(lambda: _try_objective(config, data, size), config.loss, config.data, config.augment)
        self._once(lambda: build.build_callbacks(config), config.callbacks)
        self._once(lambda: build.try_metrics(config, len(data.classes)), config.metrics, config.choose_by, len(data.classes))
        if self.has_its_devices:
            self._once(lambda: make_fabric(config), config.fabric)
        if config.model["weights"] is not None:
            shape = data.channels, len(data.classes), size
            self._once(lambda: load_weights(build_model(config, *shape), config), config.model, shape)
        evaluated = plan.total_steps // (steps * plan.eval_every) * len(data.val or ()) + len(data.test)
        return sum(parameter.numel() for parameter in model.parameters()), flops * (3 * plan.total_steps * config.batch_size + evaluated)

    def _model(self, config: Config, data: "DataSet", size: "Size") -> tuple["nn.Module", int]:
        from resnet.build_model import trial
        from resnet.facts import count_flops

        key = repr((config.model, size, data.channels, len(data.classes)))
        if key not in self.models:
            self.models[key] = trial(config, data, size)[0], count_flops(config, data, size)
        return self.models[key]

    def _once(self, part: Callable[[], object], *settings: object) -> None:
        """Tries a part once. A part with a mistake is tried again for each job that has it, so that each reports it."""
        if (key := repr(settings)) not in self.tried:
            part()
            self.tried.add(key)


def _try_objective(config: Config, data: "DataSet", size: "Size") -> None:
    import torch

    from resnet import build
    from resnet.build_data import offered_by

    device = torch.device("cpu")
    build.try_objective(config, build.build_objective(config, device, **offered_by(data)), data, size, device)


def _seconds(sweep: Sweep, checked: Sequence[Checked]) -> list[float] | None:
    """Estimates the seconds of each job from a few steps of the first one, assuming the same time per operation in all jobs.

    Returns None if the jobs run elsewhere.
    """
    from resnet.analysis.describe import describe

    if sweep.launcher == "SlurmLauncher":
        return None
    config = checked[0].job.config
    assert config is not None
    if sweep.launcher == "JoblibLauncher" and visible_gpus():  # in this process the memory of the first GPU would stay allocated
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            facts = apart.submit(describe, config).result()
    else:
        facts = describe(config)
    images = facts["steps_per_epoch"] * config.batch_size
    per_operation = facts["seconds_per_epoch"] / (3 * facts["flops"] * images)
    return [BETWEEN + per_operation * one.flops for one in checked]


def _show(checked: Sequence[Checked], duplicates: Sequence[Job], seconds: Sequence[float] | None) -> None:
    rows = differing([one.job.overrides for one in checked])
    keys = list(rows[0])
    shown = table(("job", *keys, "parameters", "operations", "about", "state"), left=("job", "state", *keys))
    times = [duration(time) for time in seconds] if seconds else [""] * len(checked)
    for one, row, time in list(zip(checked, rows, times, strict=True))[:MOST_ROWS]:
        shown.add_row(one.job.id, *map(cell, row.values()), f"{one.parameters:,}", count(one.flops), time, one.state)
    out = screen()
    out.print(shown)
    if len(checked) > MOST_ROWS:
        out.print(f"... and {len(checked) - MOST_ROWS} more")
    for job in duplicates[:MOST_ROWS]:
        out.print(f"twice, run once: {' '.join(as_given(job.overrides))} (job {job.id})", markup=False, soft_wrap=True)
    about = ""
    if seconds:
        open_ones = sum(time for one, time in zip(checked, seconds, strict=True) if not one.state.startswith(FINISHED))
        about = f"; about {duration(open_ones)} one after another"
    out.print(f"{len(checked)} jobs{about}\n", markup=False)
