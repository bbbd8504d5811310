"""How fast the norms of weights' gradients change from layer to layer."""

import numpy as np

from experiments.study import Row

STAGES = 3


def logs(row: Row, at: int) -> np.ndarray:
    """log10 of the norms of a watched step: not a number where one was not finite, -inf where it was zero."""
    with np.errstate(divide="ignore"):
        return np.log10(np.array(row["gradients"][at][1], float))


def slope(row: Row, at: int) -> float | None:
    """Of log10 of the norms over the layers, towards the stem, where they are above zero; None where one is not finite.

    A block's two convolutions are averaged, and the first block of each stage, which changes the shape, is left out. The stages share
    the slope, and each has its own height: layers of other widths have other norms.
    """
    if len(row["gradients"]) <= at or np.isnan(logs(row, at)).any():
        return None
    blocks = np.ma.masked_invalid(logs(row, at)[1:-1].reshape(STAGES, -1, 2).mean(-1)[:, 1:])
    places = np.ma.array(np.broadcast_to(np.arange(blocks.shape[1], dtype=float), blocks.shape), mask=blocks.mask)
    blocks, places = (part - part.mean(1, keepdims=True) for part in (blocks, places))
    return -float((blocks * places).sum() / (places**2).sum()) / 2
