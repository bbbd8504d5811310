"""Labels of any kind as numbers of classes: whole numbers, texts, booleans, one-hot rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet.data.errors import DataError

Array = NDArray[Any]
Numbers = NDArray[np.int64]
MOST_LABEL = 2**31  # labels from here on are negative ones that lost their sign, or no labels


def plain_labels(labels: Array, number: int) -> Array:
    """Returns one int64, text or boolean for each of the `number` images. Raises DataError."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == number and labels.dtype.kind in "biuf":
        labels = _from_one_hot(labels)
    if labels.shape != (number,) or labels.dtype.kind not in "biufUS":
        raise DataError(f"is {labels.dtype} of shape {labels.shape}; it must hold one label for each of the {number} images")
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8")
    if labels.dtype.kind in "bU":
        return labels
    if (odd := labels[labels != np.floor(labels)] if labels.dtype.kind == "f" else labels[:0]).size:
        raise DataError(f"has label {odd[0]}; whole numbers are needed")
    if wrong := [label for label in (labels.min(), labels.max()) if not 0 <= label < MOST_LABEL]:
        raise DataError(
            f"has label {int(wrong[0])}, which names no class; give each class a number from 0, and leave out images without one"
        )
    return labels.astype(np.int64)


def _from_one_hot(labels: Array) -> Array:
    wrong = ((labels == 1).sum(1) != 1) | ((labels != 0).sum(1) != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"is of shape {labels.shape}, and row {row} is not one-hot (one 1, the rest 0); each image needs one class")
    return labels.argmax(1)


def numbered(labels: Mapping[str, Array], names: Sequence[str] | None) -> tuple[dict[str, Numbers], list[str], list[str]]:
    """Returns the labels as numbers of classes, the classes, and notes.

    Args:
        labels: plain labels by the names of their arrays, those of training first.
        names: the classes that whole numbers index and texts are among; None: the values that occur in training.
    """
    first, train = next(iter(labels.items()))
    values = np.unique(train)
    for name, others in labels.items():
        if strange := np.setdiff1d(others, values).tolist():
            raise DataError(
                f"{name} has label{'s' * (len(strange) > 1)} {_listed(strange)}, which {first} lacks; a class needs images to be trained on"
            )
    if names is not None:
        return {name: indexed(others, names, name) for name, others in labels.items()}, list(names), []
    order = _by_number(values.tolist())
    number_of = {value: number for number, value in enumerate(order)}
    found = {name: np.array([number_of[value] for value in others.tolist()], dtype=np.int64) for name, others in labels.items()}
    return found, [str(value) for value in order], _notes(first, values)


def _by_number(values: list[Any]) -> list[Any]:
    """Sorts texts that are all numbers as numbers: 10 comes after 9."""
    are_numbers = all(isinstance(value, str) and value.isdecimal() for value in values)
    return sorted(values, key=lambda text: (int(text), text)) if are_numbers else values


def of_trained(labels: Array, names: Sequence[str] | None, classes: Sequence[str], name: str) -> Numbers:
    """Returns the numbers that a model's `classes` have. `names`: those that the labels' own file gives its classes. A label stands for the
    class of its name; whole numbers are places in the list only if the classes have other names.
    """
    if names is not None:
        labels = np.array(names)[indexed(labels, names, name)]
    are_values = {"b": {"False", "True"} <= set(classes), "i": all(name.isdigit() for name in classes)}
    return indexed(labels.astype(str) if are_values.get(labels.dtype.kind) else labels, classes, name)


def indexed(labels: Array, names: Sequence[str], name: str) -> Numbers:
    """Returns the numbers of the classes. Raises DataError for labels that are none of them."""
    number_of: dict[Any, int] = {key: number for number, key in enumerate(range(len(names)) if labels.dtype.kind in "bi" else names)}
    if strange := [label for label in np.unique(labels).tolist() if label not in number_of]:
        raise DataError(f"{name} has label{'s' * (len(strange) > 1)} {_listed(strange)}, where the classes are: {_listed(names)}")
    return np.array([number_of[label] for label in labels.tolist()], dtype=np.int64)


def _notes(first: str, values: Array) -> list[str]:
    if values.dtype.kind != "i" or (values == np.arange(len(values))).all():
        return []
    return [f"{first} does not count from 0 without gaps; its {len(values)} values are the classes: {_listed(values.tolist())}"]


def _listed(items: Sequence[Any]) -> str:
    return ", ".join([str(item) for item in items] if len(items) <= 10 else [*map(str, items[:8]), "...", str(items[-1])])
