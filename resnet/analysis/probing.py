"""How much features tell of the classes: the vote of the nearest neighbours, and a linear classifier."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet.analysis.intervals import share

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # C of scikit-learn: the inverse of the regularisation


class Labelled(NamedTuple):
    features: NDArray[np.float32]  # (N, D)
    labels: NDArray[np.int64]


def probe(train: Labelled, held_out: Labelled | None, test: Labelled) -> dict[str, Any]:
    """Returns the accuracies on `test` of classifiers that were fitted on `train`. Held-out images choose their setting; without any, every
    fifth training image of each class does.
    """
    train, held_out = (train, held_out) if held_out is not None else _divided(train)
    mean, spread = train.features.mean(0), train.features.std(0)

    def standardised(part: Labelled) -> Labelled:
        return Labelled((part.features - mean) / np.where(spread > 0, spread, 1), part.labels)

    known = [count for count in NEIGHBOURS if count <= len(train.labels)]
    return {
        "neighbours": _chosen(_neighbours, known, train, held_out, test),
        "linear": _chosen(_linear, STRENGTHS, *map(standardised, (train, held_out, test))),
    }


def _chosen(make: Callable[[Any], Any], settings: Sequence[Any], train: Labelled, held_out: Labelled, test: Labelled) -> dict[str, Any]:
    """Fits a classifier with each setting, keeps the one with the best held-out accuracy (the first of equals), and tests it."""
    best, best_right = None, -1
    for setting in settings:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's about an optimiser that is not quite at its end
            fitted = make(setting).fit(*train)
        if (right := _right(fitted, held_out)) > best_right:
            best, best_right, chosen = fitted, right, setting
    return {"setting": chosen, "accuracy": share(_right(best, test), len(test.labels))}


def _right(fitted: Any, part: Labelled) -> int:
    return int((fitted.predict(part.features) == part.labels).sum())


def _neighbours(count: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(count, metric="cosine", weights="distance")


def _linear(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000)


def _divided(whole: Labelled) -> tuple[Labelled, Labelled]:
    fifth = np.concatenate([np.flatnonzero(whole.labels == label)[4::5] for label in np.unique(whole.labels)])
    rest = np.setdiff1d(np.arange(len(whole.labels)), fifth)
    return Labelled(whole.features[rest], whole.labels[rest]), Labelled(whole.features[fifth], whole.labels[fifth])
