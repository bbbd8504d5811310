"""model.weights -> the weights that training starts from: of a file, a run directory, or a repository of the Hugging Face Hub."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from resnet.config.errors import UserError
from resnet.config.hashing import completed, plain_values
from resnet.config.names import HUB, OUR_MODEL
from resnet.config.schema import Config
from resnet.models.hub import hub_file
from resnet.models.weights import WeightsError, fit_weights, read_weights
from resnet.record.directory import BEST, LAST, RunDirectory

OF_THE_START = ("weights", "weights_skip", "init", "zero_init_residual", "stochastic_depth", "dropout")  # settings that no scores show


def load_weights(model: nn.Module, config: Config) -> list[str]:
    """Loads model.weights: of a run directory the best weights, or the last ones if nothing was held out.

    Returns a note for each thing that was not taken from there as it is. Raises UserError if they do not fit.
    """
    given = config.model["weights"]
    try:
        fitted = fit_weights(model, read_weights(weights_file(given, config.data.download)), config.model["weights_skip"])
    except WeightsError as error:
        raise UserError(f"model.weights={given}: {error}") from None
    model.load_state_dict(fitted.tensors)
    return [f"model.weights: {note}" for note in (*fitted.notes, *_unlike_its_run(given, config))]


def weights_file(given: str, may_download: bool = False) -> Path:
    """Returns the file with the weights of a run directory or of a repository of the Hugging Face Hub, else the path that is given.

    Raises:
        WeightsError: the repository, or a copy of its file, is not there.
    """
    if given.startswith(HUB):
        return hub_file(given, may_download)
    path = Path(given)
    if not os.path.isdir(path):  # never raises, whereas pathlib may
        return path
    return path / (BEST if os.path.exists(path / BEST) else LAST)


def _unlike_its_run(given: str, config: Config) -> Iterator[str]:
    """Tells settings in which our network differs from the run that the weights are of, although they fit: an activation, a stride."""
    directory = RunDirectory(given)
    if not directory.exists:
        return
    try:
        before, now = completed(directory.config), completed(plain_values(config))
    except UserError:  # a damaged config says nothing about the weights
        return
    if OUR_MODEL == before.get("model._target_") == now.get("model._target_"):
        for key in sorted(key for key in now if key.startswith("model.") and key.removeprefix("model.") not in OF_THE_START):
            if before.get(key) != now[key]:
                yield f"{key} was {_plain(before.get(key))} in the run of these weights, and is {_plain(now[key])} here"


def _plain(value: Any) -> str:
    return str(value).replace(" ", "")[:60]
