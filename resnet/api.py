"""The commands as functions, for notebooks and programs: `resnet.train`, `resnet.load`, `resnet.evaluate`, ..."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # these take seconds to import
    from PIL.Image import Image
    from torch import Tensor, nn

    from resnet.analysis.saved import SavedRun
    from resnet.data import Form, Size


def train(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> "SavedRun":
    """Like `python train.py OVERRIDES`: trains into outputs/<name>, or continues there. `config_dir`: a folder with your own configs.

    Raises:
        UserError: before anything is written, one line per mistake.
        RunFailed: the run started and failed; its directory says why.
        RunInterrupted: Ctrl-C or a signal came; the same call continues the run.
    """
    from resnet.analysis.saved import open_run
    from resnet.config.cli import compose_config
    from resnet.run import run

    config = compose_config(overrides, str(config_dir) if config_dir else None)
    path = Path("outputs", config.name).absolute()
    run(config, path, list(overrides))
    return open_run(path)


@dataclass(frozen=True)
class Preprocessing:
    """Turns images of the data set into the input of the trained model, (N, C, H, W) float."""

    pictures: str  # what the data set shows: photos, or a set of drawings
    form: "Form"  # of the data set's images
    model_size: "Size"  # of the model's input
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: "Tensor | Image | str | Path | Sequence[Image | str | Path]") -> "Tensor":
        """Takes uint8 images (N, C, H, W), or one or several image files or Pillow images of any size, gray or colour.

        Raises:
            DataError: a file cannot be read.
        """
        import torch

        from resnet.data.transforms import centre_crop

        if not isinstance(images, torch.Tensor):
            images = torch.stack([self._as_trained(image) for image in (images if isinstance(images, list | tuple) else [images])])
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
        return (centre_crop(images, self.model_size).float() / 255 - mean) / std

    def _as_trained(self, image: Any) -> "Tensor":
        from resnet.data.as_trained import as_trained

        return as_trained(Path(image) if isinstance(image, str) else image, self.form, self.pictures)


class Loaded(NamedTuple):
    """`model(preprocessing(images)).softmax(1)` is the probability of each of the `classes`."""

    model: "nn.Module"
    preprocessing: Preprocessing
    classes: list[str]


def load(run: str | Path, checkpoint: str | None = None, allow: Sequence[str] = ()) -> Loaded:
    """Returns the trained model of a run directory, on the CPU and in eval mode. Its scores know of no temperature.

    Args:
        checkpoint: `best` or `last`; by default best if the run has a held-out split.
        allow: modules whose components the run's config may use, for a config that somebody else wrote.

    Raises:
        UserError: it is no run directory, is damaged, or asks for more than may be trusted.
    """
    from resnet.analysis.saved import load_model, open_run

    saved = open_run(Path(run), allowed=allow)
    model, _, _ = load_model(saved, checkpoint)
    data = saved.summary["data"]
    preprocessing = Preprocessing(saved.pictures, saved.form, saved.model_size, mean=data["mean"], std=data["std"])
    return Loaded(model, preprocessing, saved.classes)


def evaluate(
    *runs: str | Path,
    split: str = "test",
    images: str | Path | None = None,
    checkpoint: str | None = None,
    allow: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Like `python -m resnet evaluate RUN...`, as its --json: scores with intervals and a row per class. Several runs are an ensemble.

    Args:
        images: your own instead of a split of the run's data: an .npz, a table, or one folder a class.
        more: average=["flip", "shift"], temperature=True, corruptions=["fog", ...], attacks=["fgsm", "pgd"] with eps=[8 / 255, ...] and
            steps=20, limit=N images, seed=0.

    Raises:
        UserError: as the command reports it.
    """
    from resnet.analysis.evaluate import evaluate as evaluate_runs
    from resnet.analysis.extras import Extras
    from resnet.analysis.saved import open_run

    saved = [open_run(Path(run), allowed=allow) for run in runs]
    return evaluate_runs(saved, split, Path(images) if images is not None else None, checkpoint, Extras(**more))


def explain(
    run: str | Path, *images: str | Path, checkpoint: str | None = None, allow: Sequence[str] = (), **more: Any
) -> list[dict[str, Any]]:
    """Like `python -m resnet explain RUN IMAGE...`: draws what speaks for a class, and returns the picture's path and what is in it.

    Args:
        more: class_name, section (a part of the network), neighbours=5 (training images), folder (default: RUN/explain).

    Raises:
        UserError: as the command reports it.
    """
    from resnet.analysis.explaining import explain as explain_pictures
    from resnet.analysis.saved import open_run

    return explain_pictures(open_run(Path(run), allowed=allow), [Path(image) for image in images], which=checkpoint, **more)


def features(
    run: str | Path, *images: str | Path, output: str | Path | None = None, checkpoint: str | None = None, allow: Sequence[str] = ()
) -> dict[str, Any]:
    """Like `python -m resnet features RUN`: what the input of the last layer tells of the classes, of the test images or of your own.

    Args:
        output: an .npz file for the features of all splits, and of your own images.

    Raises:
        UserError: as the command reports it.
    """
    from resnet.analysis.embed import embed
    from resnet.analysis.saved import open_run

    return embed(open_run(Path(run), allowed=allow), [Path(image) for image in images], Path(output) if output else None, checkpoint)


def runs(*paths: str | Path) -> Any:
    """Returns a row for each run in run directories, sweeps, and folders of them: its path, status, config, scores and costs.

    Without paths it looks in outputs/ and multirun/.
    The result is a pandas.DataFrame if pandas is installed, else a list of dicts. Unreadable runs are left out with a warning.

    Raises:
        UserError: there is no run.
    """
    import warnings

    from resnet.analysis.runs import look_for_runs

    given = paths or [folder for folder in ("outputs", "multirun") if Path(folder).is_dir()] or ["outputs"]
    found = look_for_runs([Path(path) for path in given])
    for line in found.unreadable:
        warnings.warn(line, stacklevel=2)
    rows = [one.row for one in found.runs]
    try:
        import pandas
    except ModuleNotFoundError:
        return rows
    return pandas.DataFrame(rows)
