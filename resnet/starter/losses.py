"""A loss of your own: `loss._target_=lab.losses.PolyLoss loss.epsilon=2`, or `loss=poly` with `--config-dir lab/conf`."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn


class PolyLoss(nn.Module):
    """Cross entropy plus epsilon * (1 - probability of the correct class) (Leng et al. 2022)."""

    def __init__(self, epsilon: Annotated[float, {"at_least": -1}] = 1.0) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Scores (N, K) and labels (N,), or class probabilities (N, K) if images are mixed -> one value per image (N,)."""
        shares = F.one_hot(targets, scores.shape[1]).to(scores.dtype) if targets.ndim == 1 else targets
        right = (scores.softmax(1) * shares).sum(1)
        return F.cross_entropy(scores, targets, reduction="none") + self.epsilon * (1 - right)
