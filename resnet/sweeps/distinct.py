"""An Optuna sampler that proposes no run twice: it uses another sampler while that gives new proposals, then samples at random."""

from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

TRIES = 10  # proposals that the inner sampler may repeat; with few choices it could repeat the best forever


class Distinct(BaseSampler):
    """Samples all ranges at once, in their order, because only a whole proposal shows whether it is new."""

    def __init__(
        self,
        sampler: BaseSampler,
        ranges: dict[str, BaseDistribution],
        identify: Callable[[dict[str, Any]], str],
        taken: set[str],
        seed: int | None,
    ) -> None:
        """`identify` returns the name of the run that the values make. `taken` holds the names already used, and must not cover all
        possible names.
        """
        self.random = RandomSampler(seed)
        # A GridSampler gives an interrupted trial another point of the grid. Otherwise it only samples at random without repeats, as this
        # class does.
        self.inside = self.random if isinstance(sampler, GridSampler) else sampler
        self.ranges, self.identify, self.taken = ranges, identify, taken

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.ranges

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        if trial.params.keys() >= self.ranges.keys():  # an interrupted trial keeps its values
            return {}
        samplers = chain(repeat(self.inside, TRIES), repeat(self.random))
        proposals = (self._propose(sampler, study, trial) for sampler in samplers)
        values = next(values for values in proposals if self.identify(values) not in self.taken)
        self.taken.add(self.identify(values))
        return values

    def _propose(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        values = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        values |= trial.params  # a kill may leave a trial with some of its values
        for name, distribution in self.ranges.items():
            if name not in values:
                alone = self.random if distribution.single() else sampler
                values[name] = alone.sample_independent(study, trial, name, distribution)
        return values

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self.inside.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self.inside.after_trial(study, trial, state, values)
