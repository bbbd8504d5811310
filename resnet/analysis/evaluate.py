"""Scores of a finished run with their uncertainty, on its own splits or on the user's images."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet.analysis.saved import SavedRun, answer, changed_data, load_data
from resnet.build import build_metrics
from resnet.config import UserError
from resnet.config.names import OUR_LOSS
from resnet.config.targets import trusting_only
from resnet.data import DataError, Split, images_to_evaluate
from resnet.metrics import Top5, calibration_error
from resnet.plain import for_picture
from resnet.record.curves import png
from resnet.record.directory import DirectoryError, RunDirectory

CONFIDENCE = 0.95
RESAMPLES = 1000
MOST_CLASSES = 1000  # classes in a confusion matrix, which grows with their square
Interval = dict[str, float | None]  # value, low, high; low and high are None if unknown, as for a single image


def evaluate(run: SavedRun, split: str, own: Path | None = None, which: str | None = None) -> dict[str, Any]:
    """Returns loss, accuracy, top-5, calibration error and a row per class. `own`: an .npz file or a folder to use instead of a split."""
    sessions, cpus = run.summary["sessions"], os.cpu_count() or 1
    torch.set_num_threads(min(sessions[-1].get("threads", cpus) if sessions else cpus, cpus))  # threads set the order of sums
    images, changed = _images(run, split, own)
    scores, file, step = answer(run, images, which, limit=run.config.limit_batches if own is None else None, with_loss=True)
    assert scores.logits is not None
    labels, answers = images.labels[: len(scores.logits)], scores.logits.argmax(1).numpy()
    return {
        "run": str(run.directory.path),
        "images": "own" if own is not None else split,
        "number": len(labels),
        "changed_data": changed,
        "checkpoint": file,
        "step": step,
        **_summary(scores.logits, labels),
        **_told_loss(run, scores.loss, scores.logits, labels),
        **_own_metrics(run, scores.logits, labels),
        "classes": _per_class(answers, labels.numpy(), run.classes),
        "confusion": _confusion(answers, labels.numpy(), len(run.classes)).tolist() if len(run.classes) <= MOST_CLASSES else None,
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


def _summary(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    probabilities = logits.double().softmax(1)
    right = logits.argmax(1) == labels
    confidence = probabilities.max(1).values
    return {
        "accuracy": share(int(right.sum()), len(labels)),
        **({"top5": share(round(Top5()(logits, labels) * len(labels)), len(labels))} if logits.shape[1] > 5 else {}),
        "calibration_error": _bootstrap(calibration_error, confidence, right),
    }


def _told_loss(run: SavedRun, loss: float, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Returns the run's own loss. The interval is only known for plain cross entropy. Returns nothing if the loss needs a teacher that is
    gone.
    """
    if math.isnan(loss):
        return {}
    if run.config.loss["_target_"] != OUR_LOSS or run.config.loss.get("class_weights") is not None:
        return {"loss": {"value": loss, "low": None, "high": None}}
    return {"loss": {"value": loss, **_around(loss, torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none"))}}


def _own_metrics(run: SavedRun, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Returns the run's own metrics, besides those reported for every run."""
    with trusting_only(run.allowed):
        metrics = build_metrics(run.config)
    own = {name: metric for name, metric in metrics.items() if name not in ("top5", "calibration_error")}
    values = {name: {**_bootstrap(metric, logits, labels), "unit": metric.unit} for name, metric in own.items()}  # type: ignore[attr-defined]
    return {"metrics": values}


def _around(mean: float, losses: Tensor) -> Interval:
    """Returns the bounds of the mean loss, at least zero. For one image the spread is unknown."""
    if len(losses) == 1:
        return {"low": None, "high": None}
    half = 1.96 * float(losses.std()) / len(losses) ** 0.5
    return {"low": max(mean - half, 0.0), "high": mean + half}


def share(successes: int, trials: int) -> Interval:
    """Returns a share with its Wilson interval."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, "wilson")
    return {"value": successes / trials, "low": float(interval.low), "high": float(interval.high)}


def _bootstrap(metric: Callable[..., float], *samples: Tensor) -> Interval:
    if len(samples[0]) == 1:
        return {"value": metric(*samples), "low": None, "high": None}
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(samples[0]), size=len(samples[0])) for _ in range(RESAMPLES)]
    values = [metric(*(sample[torch.from_numpy(draw)] for sample in samples)) for draw in draws]
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
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


def _confusion(answers: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    return np.bincount(labels * num_classes + answers, minlength=num_classes**2).reshape(num_classes, num_classes)


def write_confusion(report: dict[str, Any], directory: RunDirectory) -> dict[str, Any]:
    """Returns the picture's path, in the working directory if the run cannot be written. If there is no picture, returns None and the
    reason.
    """
    if report["confusion"] is None:
        return {"picture": None, "no_picture": f"not drawn for more than {MOST_CLASSES:,} classes"}
    name = f"confusion_{report['images']}.png"
    picture = draw_confusion(report)
    places = [(directory, name), (RunDirectory("."), f"{directory.path.resolve().name}_{name}")]
    for place, file_name in places:
        try:
            place.write(file_name, lambda file: file.write(picture))
            return {"picture": str(place / file_name)}
        except DirectoryError as error:
            reason = str(error).partition(";")[0]
    return {"picture": None, "no_picture": reason}


def draw_confusion(report: dict[str, Any]) -> bytes:
    """Draws a PNG: rows are true classes, columns are predictions. The shade is the share of the row, scaled so that few mistakes stay
    visible.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    names = [for_picture(row["class"]) for row in report["classes"]]
    counts = np.array(report["confusion"])
    side = max(5.0, 1.5 + 0.45 * min(len(names), 40))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", norm=PowerNorm(0.3, 0, 1))
    axes.set_title(f"{report['images']}: {100 * report['accuracy']['value']:.2f} % of {report['number']:,} images", fontsize=11)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    if len(names) <= 40:
        axes.set_xticks(
            range(len(names)),
            names,
            rotation=45 if max(map(len, names)) > 2 else 0,
            ha="right" if max(map(len, names)) > 2 else "center",
            parse_math=False,  # a class name may contain $
        )
        axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(names) <= 20:
        for row, column in zip(*counts.nonzero(), strict=True):
            is_dark = counts[row, column] > 0.25 * counts[row].sum()
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color="white" if is_dark else "black")
    return png(figure, 110)
