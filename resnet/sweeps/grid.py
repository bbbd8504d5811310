"""Composes and checks the jobs of a grid before Hydra runs them. Parts that jobs share are composed only once."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from resnet.config import Config, UserError, config_hash, load_config
from resnet.config.arguments import quoted, read_arguments
from resnet.config.cli import check_processes
from resnet.config.compose import Composer, Request, as_given, read_request, without_hydra
from resnet.config.explain import explain
from resnet.config.hashing import flatten
from resnet.config.values import unknown

UNNAMED = ("name", "wandb", "sweep", "hydra")  # keys that do not make a different run


@dataclass(frozen=True)
class Job:
    """A job of a grid. `config` is None if it could not be composed; `error` then says why."""

    overrides: list[str]
    config: Config | None
    error: str = ""

    @property
    def id(self) -> str:
        return config_hash(self.config)[:8] if self.config else "invalid"


@dataclass(frozen=True)
class Sweep:
    """What a command with -m asks for: a grid of jobs, or a search space."""

    name: str
    directory: Path
    settings: Any  # the key `sweep` of the config
    overrides: list[list[str]]  # the jobs of a grid
    launcher: str  # name of the launcher's class
    sweeper: dict[str, Any]  # the key `hydra.sweeper` of the config
    space: list[str]  # for a search: the overrides of every trial, some with ranges
    composer: Composer
    of_hydra: list[str]  # overrides of Hydra's own settings, shared by all jobs

    @property
    def is_search(self) -> bool:
        return self.sweeper["_target_"].endswith("OptunaSweeper")

    @property
    def is_parallel(self) -> bool:
        return self.launcher != "BasicLauncher"


def read_sweep(arguments: Sequence[str]) -> Sweep:
    """Reads a sweep from a command line. Raises UserError if that fails."""
    command = read_arguments(arguments)
    try:
        return sweep_of(read_request(command))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, Composer(command), command.overrides)) from None


def sweep_of(request: Request) -> Sweep:
    composer, config = request.composer, request.config
    sweeper: dict[str, Any] = OmegaConf.to_container(config.hydra.sweeper, resolve=True)  # type: ignore[assignment]
    params = [f"{key}={value}" for key, value in (sweeper["params"] or {}).items()]
    parsed = composer.parse(request.overrides)
    space = [*params, *(str(item.input_line) for item in parsed if not item.is_hydra_override())]
    overrides: list[list[str]] = []
    if sweeper["_target_"].endswith("BasicSweeper"):
        items = composer.parse(space)
        for item in items:
            _check_values(item)
        overrides = _grid(items)
    launcher = config.hydra.launcher._target_.rpartition(".")[2]
    if launcher == "JoblibLauncher" and config.hydra.launcher.n_jobs == 1:  # joblib runs a single job in this process
        launcher = "BasicLauncher"
    of_hydra = [str(item.input_line) for item in parsed if item.is_hydra_override()]
    name, directory = str(config.sweep.name), Path(config.hydra.sweep.dir)
    return Sweep(name, directory, config.sweep, overrides, launcher, sweeper, space, composer, of_hydra)


def _grid(items: Sequence[Override]) -> list[list[str]]:
    """Returns the overrides of each job, in the order of Hydra's sweeper: the last key changes fastest."""
    choices: dict[str, list[str]] = {}
    for item in items:
        key = item.get_key_element()
        values = item.sweep_string_iterator() if item.is_sweep_override() else [item.get_value_element_as_str()]
        choices[key] = [f"{key}={value}" for value in values]
    return [list(job) for job in itertools.product(*choices.values())]


def _check_values(item: Override) -> None:
    """Raises UserError if a key of a grid has no values, or has an interval, which only a search can use."""
    if item.is_interval_sweep():
        raise UserError(f"{item.input_line}: a grid takes single values; hydra/sweeper=search looks for the best in an interval")
    if item.is_sweep_override():
        try:
            values = list(item.sweep_string_iterator())
        except ValueError as error:
            raise UserError(f"{item.input_line}: {error}") from None
        if not values:
            raise UserError(f"{item.input_line}: there is no value in it, and no job to run")


def compose_jobs(sweep: Sweep) -> Iterator[Job]:
    """Composes the jobs. Hydra composes once for each choice of groups; plain values, the larger part of a grid, are set on a copy."""
    composer = sweep.composer
    composed: dict[tuple[str, ...], DictConfig] = {}
    name = f"sweep.name={quoted(sweep.name)}"
    for texts in sweep.overrides:
        try:
            items = composer.parse([*texts, name])
            choices = tuple(str(item.input_line) for item in items if not _is_plain_value(item, composer))
            if choices not in composed:
                composed[choices] = without_hydra(composer.compose([*sweep.of_hydra, *choices]))
            config = composed[choices].copy()
            for item in items:
                if _is_plain_value(item, composer):
                    _set(config, item, composer)
            checked = load_config(config)
            check_processes(checked)
            yield Job(texts, checked)
        except UserError as error:
            yield Job(texts, None, str(error))
        except (HydraException, OmegaConfBaseException, ValueError, IndexError) as error:
            yield Job(texts, None, explain(error, composer, texts))


def _set(config: DictConfig, item: Override, composer: Composer) -> None:
    try:
        OmegaConf.update(config, item.key_or_group, item.value(), merge=False)
    except (ConfigKeyError, ConfigAttributeError):
        known = flatten(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]
        raise UserError(unknown(item.key_or_group, known, composer)) from None


def _is_plain_value(item: Override, composer: Composer) -> bool:
    """True for a plain `key=value`. Choices of groups, additions and deletions follow Hydra's rules instead."""
    is_group = composer.is_group(item.key_or_group.split("@")[0])
    return item.type is not None and item.type.name == "CHANGE" and not is_group and not isinstance(item.value(), dict)


def differing(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Returns, for each job, the overrides that not all jobs share, as key: value. The value is empty if the job does not set the key."""
    given = [dict(text.lstrip("+~").partition("=")[::2] for text in as_given(overrides)) for overrides in jobs]
    keys = [key for key in dict.fromkeys(key for values in given for key in values) if not key.startswith(UNNAMED)]
    varied = [key for key in keys if len({values.get(key) for values in given}) > 1]
    return [{key: values.get(key, "") for key in varied} for values in given]


def varied(sweep: Sweep) -> list[str]:
    """Returns the keys that differ between the jobs; for a search, the keys with a range."""
    if not sweep.is_search:
        return list(differing(sweep.overrides)[0]) if sweep.overrides else []
    return [item.key_or_group for item in sweep.composer.parse(sweep.space) if item.is_sweep_override()]
