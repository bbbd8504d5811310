"""A search space: its ranges, as Optuna's sweeper reads them, and the runs that their values make."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    DiscreteUniformDistribution,
    IntLogUniformDistribution,
    IntUniformDistribution,
)

from resnet.config import UserError
from resnet.sweeps.grid import Job, Sweep, compose_jobs

Values = Mapping[str, Any]  # one value per range


class Space:
    """`ranges` are by key; `fixed` holds the overrides that all trials share."""

    def __init__(self, sweep: Sweep) -> None:
        """Raises UserError if a range cannot be read."""
        self.sweep = sweep
        self.ranges, self.fixed = _parse(sweep.space)
        self.names: dict[tuple[str, ...], str] = {}

    def compose(self, choices: Sequence[Sequence[str]]) -> list[Job]:
        """Composes a job for each of the choices, which are lists of overrides."""
        return list(compose_jobs(replace(self.sweep, overrides=[[*chosen, *self.fixed] for chosen in choices])))

    def ends(self) -> list[list[str]]:
        """Returns the choices, or both ends, of one range at a time."""
        return [[f"{name}={value}"] for name, distribution in self.ranges.items() for value in _ends(distribution)]

    def name(self, values: Values) -> str:
        """Returns the name of the run that the values make, which is its directory's name."""
        overrides = as_overrides(values)
        if tuple(overrides) not in self.names:
            self.names[tuple(overrides)] = _name(self.compose([overrides])[0])
        return self.names[tuple(overrides)]

    def count(self, wanted: int) -> int:
        """Counts the different runs of the space, up to `wanted`."""
        all_values = [_all_of(distribution) for distribution in self.ranges.values()]
        if not all(all_values):
            return wanted
        points = (dict(zip(self.ranges, point, strict=True)) for point in product(*all_values))
        overrides: Any = ([*as_overrides(values), *self.fixed] for values in points)  # composed one by one: there may be millions
        found: set[str] = set()
        for job in compose_jobs(replace(self.sweep, overrides=overrides)):
            found.add(_name(job))
            if len(found) == wanted:
                break
        return len(found)


def as_overrides(values: Values) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def _name(job: Job) -> str:
    return job.id if job.config else " ".join(job.overrides)


def _parse(space: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    ranges: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    for text in space:  # one by one, so that the message can name the wrong one
        try:
            found, given = create_params_from_overrides([text])
        except (ValueError, AssertionError, NotImplementedError) as error:
            raise UserError(f"{text}: no range that can be searched ({error})") from None
        ranges |= found
        fixed |= dict.fromkeys(given, text)
    return {name: distribution for name, distribution in ranges.items() if name not in fixed}, list(fixed.values())


def _ends(distribution: Any) -> Sequence[Any]:
    return distribution.choices if hasattr(distribution, "choices") else (distribution.low, distribution.high)


def _all_of(distribution: BaseDistribution) -> Sequence[Any]:
    """Returns all values of a range, or nothing if there are infinitely many."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntLogUniformDistribution):
        return range(distribution.low, distribution.high + 1)
    if isinstance(distribution, IntUniformDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    if isinstance(distribution, DiscreteUniformDistribution):
        low, step = distribution.low, distribution.q
        return [low + number * step for number in range(round((distribution.high - low) / step) + 1)]
    return ()
