"""Opens a run directory, also a stranger's: its config builds only what is allowed, its files stay inside, its weights run no code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet.build import build_data, build_eval_loader, build_fabric, build_model
from resnet.config import Config, UserError, load_config
from resnet.config.targets import find_target
from resnet.data import DataSet, Split
from resnet.models import ResNet
from resnet.record import data_facts
from resnet.runs.content import other_data
from resnet.runs.directory import BEST, CONFIG, LAST, DirectoryError, RunDirectory
from resnet.training import checkpoint
from resnet.training.checkpoint import CheckpointError
from resnet.training.learner import Scores, evaluate

NEEDED = ("classes", "mean", "std", "channels", "image_size")  # of a summary's data
ALLOWED = ("torch.optim", "resnet.training.muon", "resnet.training.schedules")  # what a saved _target_ may name


@dataclass(frozen=True)
class SavedRun:
    directory: RunDirectory
    config: Config
    summary: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return list(self.summary["data"]["classes"])

    @property
    def image_size(self) -> int:
        """Pixels a side of the data set's images, before any crop."""
        return int(self.summary["data"]["image_size"])

    @property
    def channels(self) -> int:
        return int(self.summary["data"]["channels"])


def open_run(path: Path, overrides: Sequence[str] = (), allowed: Sequence[str] = ()) -> SavedRun:
    """`overrides` are `key=value`; `allowed` are further modules whose classes a _target_ may name.

    Raises:
        UserError: it is no run directory, or asks for more than may be trusted.
    """
    directory = RunDirectory(path)
    if not directory.exists:
        raise UserError(f"{path}: no run directory: it holds no config.yaml")
    try:
        directory.check_inside()
        values, summary = directory.config, directory.summary
        _check_trust(path, values, (*ALLOWED, *allowed))
        given = OmegaConf.from_dotlist(list(overrides))
        _check_config(path, values)
        config = load_config(OmegaConf.to_container(OmegaConf.merge(values, given)))
    except (DirectoryError, OmegaConfBaseException, OSError) as error:
        raise UserError(f"{path}: cannot be opened ({str(error).splitlines()[0]})") from None
    if not set(NEEDED) <= summary.get("data", {}).keys() or not summary["data"]["classes"]:
        raise UserError(f"{path}: its summary.json says too little of its data; it was not written by this train.py")
    if not len(summary["data"]["mean"]) == len(summary["data"]["std"]) == summary["data"]["channels"]:
        raise UserError(f"{path}: its summary.json has not one data.mean and data.std for each of {summary['data']['channels']} channels")
    return SavedRun(directory, config, summary)


def load_model(run: SavedRun, which: str | None = None) -> tuple[ResNet, str, int]:
    """The model in eval mode, the file of its weights and their step. `which`: best or last; None: best where there is one."""
    name = {"best": BEST, "last": LAST, None: BEST if (run.directory / BEST).exists() else LAST}[which]
    with torch.device("meta"):  # takes no memory before the shapes are known to be those of the file
        model = build_model(run.config, run.channels, len(run.classes))
    try:
        content = checkpoint.load(run.directory / name)
        model.load_state_dict(_weights(content), assign=True)
        step = int(content["progress"]["step"])
    except CheckpointError as error:
        raise UserError(str(error)) from None
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{run.directory / name}: does not fit the run's config ({str(error).splitlines()[0]})") from None
    return model.eval(), name, step


def answer(run: SavedRun, images: Split, which: str | None = None, limit: int | None = None) -> tuple[Scores, str, int]:
    """The model's scores and logits for images as the data set has them; the file of its weights and their step."""
    accelerator = "cpu" if run.config.fabric.accelerator == "cpu" else "auto"  # the GPU that it was trained on need not be here
    fabric_settings = replace(run.config.fabric, accelerator=accelerator, devices=1, num_nodes=1, strategy="auto")
    config = replace(run.config, limit_batches=limit, fabric=fabric_settings)
    fabric = build_fabric(config)
    model, file, step = load_model(run, which)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    known = run.summary["data"]
    data = DataSet(images, None, images, run.classes, known["mean"], known["std"])
    batches = build_eval_loader(config, data, images, fabric).epoch()
    scores = evaluate(fabric, fabric.setup_module(model), batches, keep_logits=True)
    if scores.logits is None or not scores.logits.isfinite().all():
        raise UserError(f"{run.directory / file}: its answers are no finite numbers; the weights are damaged, or their training diverged")
    return scores, file, step


def load_data(run: SavedRun) -> DataSet:
    """With the mean and standard deviation that the run was trained with. Nothing is downloaded: that is for train.py to do."""
    known = run.summary["data"]
    settings = replace(run.config.data, mean=known["mean"], std=known["std"], download=False)
    return build_data(replace(run.config, data=settings))


def changed_data(run: SavedRun, data: DataSet) -> list[str]:
    """In what the data at hand are not those of training, one line a part."""
    return other_data(run.summary, {"data": data_facts(data)})


def _weights(content: dict[str, Any]) -> dict[str, Any]:
    """Of best.pt the weights, of last.pt those that would be evaluated: the averaged ones where there are any."""
    average = content.get("average")
    if not average:
        return dict(content["model"])
    return {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}


def _check_config(path: Path, values: dict[str, Any]) -> None:
    try:
        load_config(values)
    except UserError as error:
        raise UserError("\n".join(f"{path / CONFIG}: {line}" for line in str(error).splitlines())) from None


def _check_trust(path: Path, values: dict[str, Any], allowed: Sequence[str]) -> None:
    for key, value in _leaves(values):
        if key.endswith("_target_"):
            _check_target(f"{path}: {key}={value}", value, allowed)
        elif isinstance(value, str) and "${" in value:
            raise UserError(f"{path}: {key}={value}: train.py writes no such reference; it is not followed")


def _check_target(given: str, target: Any, allowed: Sequence[str]) -> None:
    """Both by the name that is given and by where the thing that it leads to was defined: a module's imports lead anywhere."""
    refused = f"{given}: not on the list of what a saved config may build ({', '.join(allowed)}); --allow MODULE adds to it"
    prefixes = tuple(f"{prefix.rstrip('.')}." for prefix in allowed)
    if not str(target).startswith(prefixes):
        raise UserError(refused)
    found = find_target(given, target)
    if not f"{found.__module__}.".startswith(prefixes):
        raise UserError(refused)


def _leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _leaves(value, f"{key}[{index}]")
    else:
        yield key, values
