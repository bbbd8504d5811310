"""Test-time averaging: the mean prediction over views of an image (Krizhevsky et al. 2012, section 4.1), or over several models."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES_PER_SHIFT = 32  # an image is shifted by this part of its side, and by at least one pixel


def _flipped(images: Tensor) -> list[Tensor]:
    return [images.flip(-1)]


def _shifted(images: Tensor) -> list[Tensor]:
    """Moves images up, down, left and right; the pixels that appear repeat the edge."""
    by = max(round(images.shape[-1] / SIDES_PER_SHIFT), 1)
    height, width = images.shape[-2:]
    padded = F.pad(images, (by,) * 4, mode="replicate")
    return [padded[..., top : top + height, left : left + width] for top, left in ((0, by), (2 * by, by), (by, 0), (by, 2 * by))]


VIEWS: dict[str, Callable[[Tensor], list[Tensor]]] = {"flip": _flipped, "shift": _shifted}


class Averaged(nn.Module):
    """Images (N, C, H, W) -> logarithm of the mean probability (N, K) over each image, its views, and the views of its views."""

    def __init__(self, model: nn.Module, views: Sequence[str]) -> None:
        super().__init__()
        self.model, self.views = model, [VIEWS[name] for name in dict.fromkeys(views)]

    def forward(self, images: Tensor) -> Tensor:
        seen = [images]
        for views in self.views:
            seen += [view for one in seen for view in views(one)]
        return mean_prediction(torch.stack([self.model(view).float() for view in seen]))


def mean_prediction(logits: Tensor) -> Tensor:
    """Returns the logarithm of the mean probability over the first dimension, (M, N, K) -> (N, K)."""
    return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))
