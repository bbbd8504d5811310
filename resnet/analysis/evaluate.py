"""Scores of a finished run, or of several together, with their uncertainty, on the run's own splits or on the user's images."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resnet.analysis.answering import Answering
from resnet.analysis.attacks import attack_report
from resnet.analysis.confusion import confusion
from resnet.analysis.ensemble import Ensemble, check_alike
from resnet.analysis.extras import PLAIN, Extras, check_extras
from resnet.analysis.intervals import LEVEL, Share, share
from resnet.analysis.robustness import corruption_report
from resnet.analysis.saved import SavedRun, changed_data, load_data
from resnet.analysis.temperature import temperature_report
from resnet.build import build_metrics
from resnet.build_data import EVAL_BATCH
from resnet.config import UserError
from resnet.config.names import OUR_LOSS
from resnet.config.targets import trusting_only
from resnet.data import DataError, Split, images_to_evaluate
from resnet.metrics import Top5, calibration_error, never_predicted

RESAMPLES = 1000


def evaluate(
    runs: SavedRun | Sequence[SavedRun], split: str = "test", own: Path | None = None, which: str | None = None, extras: Extras = PLAIN
) -> dict[str, Any]:
    """Returns loss, accuracy, top-5, calibration error, a row per class, and what `extras` asks for. Several runs answer as an ensemble.

    `own`: an .npz file or a folder to use instead of a split. Raises UserError.
    """
    members = [runs] if isinstance(runs, SavedRun) else list(runs)
    run = members[0]
    check_extras(extras, len(members), split if own is None else None)
    check_alike(members, ([split] if own is None else []) + (["val"] if extras.temperature else []))
    sessions, cpus = run.summary["sessions"], os.cpu_count() or 1
    torch.set_num_threads(min(sessions[-1].get("threads", cpus) if sessions else cpus, cpus))  # threads set the order of sums
    images, changed = _images(run, split, own)
    chosen = _chosen(len(images), run.config.limit_batches if own is None else None, extras)
    images = images if len(chosen) == len(images) else images.subset(chosen)
    ensemble = Ensemble([Answering(one, which, extras.average) for one in members])
    each, loss = _answers(ensemble, images)
    logits, labels = ensemble.combined(each), images.labels
    answers, first = logits.argmax(1), ensemble.members[0]
    return {
        "run": str(run.directory.path),
        "images": "own" if own is not None else split,
        "number": len(labels),
        "changed_data": changed,
        "checkpoint": first.file,
        "step": first.step,
        **_members(ensemble, each, labels),
        **_averaged(ensemble, which, images),
        **_summary(logits, labels),
        **_told_loss(run, loss, logits, labels),
        **_own_metrics(run, logits, labels),
        "classes": _per_class(answers.numpy(), labels.numpy(), run.classes),
        "never_predicted": never_predicted(answers, labels, run.classes),
        "confusion": confusion(answers.numpy(), labels.numpy(), len(run.classes)),
        **(temperature_report(ensemble, logits, labels) if extras.temperature else {}),
        **(corruption_report(ensemble, images, chosen, extras.corruptions, extras.seed) if extras.corruptions else {}),
        **(attack_report(first, images, extras.attacks, extras.eps, extras.steps, extras.seed) if extras.attacks else {}),
    }


def _images(run: SavedRun, split: str, own: Path | None) -> tuple[Split, list[str]]:
    """Returns the images, and what has changed in the run's own data since it was trained."""
    if own is not None:
        try:
            return images_to_evaluate(own, run.classes, run.form, run.pictures), []
        except DataError as error:
            raise UserError(str(error)) from None
    data = load_data(run)
    chosen = {"test": data.test, "val": data.val}[split]
    if chosen is None:
        raise UserError(f"{run.directory.path}: it held nothing out (data.val_size=0); evaluate it on test")
    return chosen, changed_data(run, data)


def _chosen(number: int, limit_batches: int | None, extras: Extras) -> NDArray[np.int64]:
    """Returns the indices of the images to use: all, those of the run's first batches, or as many at random as `extras.limit` says."""
    first = min(number, limit_batches * EVAL_BATCH) if limit_batches else number
    if extras.limit is None or extras.limit >= first:
        return np.arange(first)
    return np.sort(np.random.default_rng(extras.seed).permutation(first)[: extras.limit])


def _answers(ensemble: Ensemble, images: Split) -> tuple[list[Tensor], float]:
    """Returns the logits of each member, and the loss: the run's own for a single model, else cross entropy where that is its loss."""
    first = ensemble.members[0]
    if len(ensemble.members) == 1 and not first.views:
        scores = first.scores(images, with_loss=True)
        assert scores.logits is not None
        return [scores.logits], scores.loss
    each = ensemble.each(images)
    is_known = _is_cross_entropy(first.run)
    return each, float(F.cross_entropy(ensemble.combined(each).double(), images.labels)) if is_known else math.nan


def _members(ensemble: Ensemble, each: Sequence[Tensor], labels: Tensor) -> dict[str, Any]:
    if len(each) == 1:
        return {}
    return {
        "ensemble": [
            {"run": str(one.run.directory.path), "checkpoint": one.file, "step": one.step, "accuracy": _accuracy(logits, labels)}
            for one, logits in zip(ensemble.members, each, strict=True)
        ]
    }


def _averaged(ensemble: Ensemble, which: str | None, images: Split) -> dict[str, Any]:
    """Returns the views, and for comparison the accuracy of a single run without them."""
    first = ensemble.members[0]
    if not first.views:
        return {}
    if len(ensemble.members) > 1:
        return {"averaged": {"views": list(first.views), "accuracy_without": None}}
    without = _accuracy(Answering(first.run, which).logits(images), images.labels)
    return {"averaged": {"views": list(first.views), "accuracy_without": without}}


def _accuracy(logits: Tensor, labels: Tensor) -> Share:
    return share(int((logits.argmax(1) == labels).sum()), len(labels))


def _summary(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    probabilities = logits.double().softmax(1)
    right = logits.argmax(1) == labels
    confidence = probabilities.max(1).values
    return {
        "accuracy": _accuracy(logits, labels),
        **({"top5": share(round(Top5()(logits, labels) * len(labels)), len(labels))} if logits.shape[1] > 5 else {}),
        "calibration_error": _bootstrap(calibration_error, confidence, right),
    }


def _told_loss(run: SavedRun, loss: float, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Returns the loss. Its interval is only known for plain cross entropy. Returns nothing for NaN, which stands for a loss that is not
    known: one that needs a teacher that is gone, or one of several models that is not cross entropy.
    """
    if math.isnan(loss):
        return {}
    if not _is_cross_entropy(run):
        return {"loss": {"value": loss, "low": None, "high": None}}
    return {"loss": {"value": loss, **_around(loss, F.cross_entropy(logits.double(), labels, reduction="none"))}}


def _is_cross_entropy(run: SavedRun) -> bool:
    return run.config.loss["_target_"] == OUR_LOSS and run.config.loss.get("class_weights") is None


def _own_metrics(run: SavedRun, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Returns the run's own metrics, besides those reported for every run."""
    with trusting_only(run.allowed):
        metrics = build_metrics(run.config)
    own = {name: metric for name, metric in metrics.items() if name not in ("top5", "calibration_error")}
    values = {name: {**_bootstrap(metric, logits, labels), "unit": metric.unit} for name, metric in own.items()}  # type: ignore[attr-defined]
    return {"metrics": values}


def _around(mean: float, losses: Tensor) -> Share:
    """Returns the bounds of the mean loss, at least zero. For one image the spread is unknown."""
    if len(losses) == 1:
        return {"low": None, "high": None}
    half = 1.96 * float(losses.std()) / len(losses) ** 0.5
    return {"low": max(mean - half, 0.0), "high": mean + half}


def _bootstrap(metric: Callable[..., float], *samples: Tensor) -> Share:
    if len(samples[0]) == 1:
        return {"value": metric(*samples), "low": None, "high": None}
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(samples[0]), size=len(samples[0])) for _ in range(RESAMPLES)]
    values = [metric(*(sample[torch.from_numpy(draw)] for sample in samples)) for draw in draws]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": metric(*samples), "low": float(low), "high": float(high)}


def _per_class(answers: NDArray[np.int64], labels: NDArray[np.int64], names: list[str]) -> list[dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(labels, answers, labels=range(len(names)), zero_division=0.0)
    rows = []
    for name, precision, recall, f1, images in zip(names, *(column.tolist() for column in scores), strict=True):
        row = {"class": name, "images": int(images), "precision": precision, "recall": recall, "f1": f1}
        if images := int(images):
            interval = share(round(recall * images), images)
            row |= {"recall_low": interval["low"], "recall_high": interval["high"]}
        rows.append(row)
    return rows
