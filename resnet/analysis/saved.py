"""Opens a run directory, even one from a stranger: its config builds only what is allowed, its files stay inside, its weights run no
code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from resnet.build_data import build_augment, build_data
from resnet.build_model import build_model, is_foreign, meta_model
from resnet.config import Config, UserError, load_config
from resnet.config.targets import trusting_only
from resnet.data import DataSet, Form, Size, as_size
from resnet.facts import data_facts
from resnet.models.weights import is_dense
from resnet.record.content import as_digest, data_digest, other_data, short
from resnet.record.directory import BEST, CONFIG, LAST, DirectoryError, RunDirectory
from resnet.training import checkpoint
from resnet.training.checkpoint import CheckpointError

NEEDED = ("classes", "mean", "std", "channels", "image_size")  # keys needed in a summary's data


@dataclass(frozen=True)
class SavedRun:
    """An opened run. `allowed`: modules whose components its config may name, besides those that all saved configs may use."""

    directory: RunDirectory
    config: Config
    summary: dict[str, Any]
    allowed: Sequence[str] = ()

    @property
    def classes(self) -> list[str]:
        return list(self.summary["data"]["classes"])

    @property
    def size(self) -> Size:
        """Of the data set's images, before any crop."""
        return as_size(self.summary["data"]["image_size"])

    @property
    def model_size(self) -> Size:
        """Of the model's input."""
        if (size := self.summary.get("input_size")) is not None:
            return as_size(size)
        with trusting_only(self.allowed):
            return build_augment(self.config).output_size(self.size)

    @property
    def channels(self) -> int:
        return int(self.summary["data"]["channels"])

    @property
    def form(self) -> Form:
        return Form(self.size, self.channels, self.config.data.fit)

    @property
    def pictures(self) -> str:
        """What the data set shows, as Source.pictures says. Older runs name only the data set."""
        return str(self.summary["data"].get("pictures") or self.config.data.name)


def open_run(path: Path, overrides: Sequence[str] = (), allowed: Sequence[str] = ()) -> SavedRun:
    """Opens a run. `overrides` are `key=value`; `allowed` are further modules whose classes a _target_ may name.

    Raises:
        UserError: it is no run directory, or asks for more than may be trusted.
    """
    directory = RunDirectory(path)
    if not directory.exists:
        raise UserError(f"{path}: no run directory: it holds no config.yaml")
    try:
        directory.check_inside()
        values, summary = directory.config, directory.summary
        _check_references(path, values)
        given = _given(overrides)
        _check_config(path, values)
        config = load_config(OmegaConf.to_container(OmegaConf.merge(values, given)))
    except (DirectoryError, OmegaConfBaseException, OSError) as error:
        raise UserError(f"{path}: cannot be opened ({str(error).splitlines()[0]})") from None
    if not set(NEEDED) <= summary.get("data", {}).keys() or not summary["data"]["classes"]:
        raise UserError(f"{path}: its summary.json says too little of its data; it was not written by this train.py")
    if not len(summary["data"]["mean"]) == len(summary["data"]["std"]) == summary["data"]["channels"]:
        raise UserError(f"{path}: its summary.json has not one data.mean and data.std for each of {summary['data']['channels']} channels")
    return SavedRun(directory, config, summary, allowed)


def load_model(run: SavedRun, which: str | None = None) -> tuple[nn.Module, str, int]:
    """Returns the model in eval mode, the file of its weights and their step. `which`: best or last; None takes best if it exists."""
    name = {"best": BEST, "last": LAST, None: BEST if (run.directory / BEST).exists() else LAST}[which]
    shape = run.channels, len(run.classes), run.model_size
    with trusting_only(run.allowed):
        # Ours takes no memory until its shapes are known to match the file. A foreign model may hold more than its state dict.
        is_ours = not is_foreign(run.config)
        model = (meta_model if is_ours else build_model)(run.config, *shape)
    try:
        content = checkpoint.load(run.directory / name)
        weights = _weights(content)
        _check_plain(weights, model)
        model.load_state_dict(weights, assign=is_ours)
        step = int(content["progress"]["step"])
        _check_own(run, content)
    except CheckpointError as error:
        raise UserError(str(error)) from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{run.directory / name}: does not fit the run's config ({reason})") from None
    # A file of another precision gives almost the same scores. Converted only now, since its shapes are known to be the model's.
    return model.to(torch.float64 if run.config.fabric.precision == "64-true" else torch.float32).eval(), name, step


def _check_own(run: SavedRun, content: dict[str, Any]) -> None:
    """Raises ValueError if the file was copied here from a run on other data. Older files do not record their data."""
    theirs, own = as_digest(content.get("data_digest")), data_digest(run.summary)
    if theirs and own and theirs != own:
        raise ValueError(f"it was trained on other data: digest {short(theirs)}, not {short(own)}")


def _check_plain(weights: dict[str, Any], model: nn.Module) -> None:
    """Raises TypeError for tensors that would load but not compute."""
    expected = model.state_dict()
    for name, value in weights.items():
        if name in expected and not (is_dense(value) and value.is_floating_point() == expected[name].is_floating_point()):
            raise TypeError(f"{name} is no plain tensor of {'floating-point' if expected[name].is_floating_point() else 'whole'} numbers")


def load_data(run: SavedRun) -> DataSet:
    """Loads the data with the mean and standard deviation of the run's training. Downloads nothing; only train.py does."""
    known = run.summary["data"]
    settings = replace(run.config.data, mean=known["mean"], std=known["std"], image_size=known["image_size"], download=False)
    with trusting_only(run.allowed):
        return build_data(replace(run.config, data=settings))


def changed_data(run: SavedRun, data: DataSet) -> list[str]:
    """Returns one line for each part of the data that has changed since training."""
    return other_data(run.summary, {"data": data_facts(data)})


def _weights(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the weights that are evaluated: those of best.pt, or of last.pt the averaged ones if there are any."""
    average = content.get("average")
    if not average:
        return dict(content["model"])
    return {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}


def _given(overrides: Sequence[str]) -> DictConfig:
    for text in overrides:
        try:
            OmegaConf.from_dotlist([text])
        except (yaml.YAMLError, ValueError, RecursionError):
            raise UserError(f"{text}: cannot be read; write KEY=VALUE, with a number, a word, or a list like [2,2,2]") from None
    return OmegaConf.from_dotlist(list(overrides))


def _check_config(path: Path, values: dict[str, Any]) -> None:
    try:
        load_config(values)
    except UserError as error:
        raise UserError("\n".join(f"{path / CONFIG}: {line}" for line in str(error).splitlines())) from None


def _check_references(path: Path, values: dict[str, Any]) -> None:
    for key, value in _leaves(values):
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{path}: {key}={value}: train.py writes no such reference; it is not followed")


def _leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _leaves(value, f"{key}[{index}]")
    else:
        yield key, values
