"""Pixel values of any type as 8-bit values: the one rule for pictures and for arrays."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet.data.errors import DataError

BLOCK = 2**22  # values converted at once, so that a large array takes no second copy
ALMOST = 1e-3  # resizing may take floats this far out of 0..1
RULE = "whole numbers are read as 8 bits up to 255, as 16 bits up to 65535; floats as shares of white up to 1, as 8 bits up to 255"


def in_8_bits(values: NDArray[Any], limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Booleans become black and white. `limits`: the range that decides if these are a part of the values. Raises DataError."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    is_float = values.dtype.kind == "f"
    white = _white(*(limits or value_range([values])), is_float)
    found = np.empty(values.shape, np.uint8)
    rows = max(BLOCK // max(values[:1].size, 1), 1)
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        found[start : start + rows] = np.rint(np.clip(part, 0, white) * (255 / white)) if is_float else part // ((white + 1) // 256)
    return found


def value_range(arrays: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Returns the smallest and the largest of all values. Raises DataError for NaN and infinity."""
    with np.errstate(invalid="ignore"):
        ends = [float(end) for values in arrays if values.size for end in (values.min(), values.max())]
    if not np.isfinite(ends).all():
        raise DataError("values that are no numbers (NaN or infinity); replace them")
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def meaning(limits: tuple[float, float], kind: str) -> str:
    """`kind`: NumPy's letter for the type."""
    if kind == "b":
        return "black and white"
    return {1: "shares of white", 255: "8-bit values", 65_535: "16-bit values"}[_white(*limits, kind == "f")]


def _white(low: float, high: float, is_float: bool) -> int:
    """Returns the value that means white."""
    if is_float and low >= -ALMOST and high <= 1 + ALMOST:
        return 1
    if low >= 0 and high <= 255 and not (is_float and high < 2):  # floats that end a little above 1 could be either
        return 255
    if low >= 0 and high <= 65_535 and not is_float:
        return 65_535
    raise DataError(f"values from {low:g} to {high:g}, whose white is unknown: {RULE}; scale them")
