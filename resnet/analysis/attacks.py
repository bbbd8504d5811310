"""Adversarial images within a distance eps of the originals (maximum norm): FGSM (Goodfellow et al. 2015), PGD (Madry et al. 2018)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from resnet.analysis.answering import Answering
from resnet.analysis.intervals import share
from resnet.data import Split
from resnet.data.progress import shown

Model = Callable[[Tensor], Tensor]  # pixels (N, C, H, W) in 0..1 -> logits (N, K)
ATTACKS = ("fgsm", "pgd")
EPS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
STEPS = 20
MOST_PIXELS = 2**20  # a channel, in a batch whose gradient is computed: it needs far more memory than an answer
STRIDE = 2.5  # the steps of PGD together reach this many times eps, as Madry et al. chose


def fgsm(model: Model, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Takes one step of eps along the sign of the loss's gradient. Images in 0..1."""
    return (images + eps * _gradient(model, images, labels).sign()).clamp(0, 1)


def pgd(model: Model, images: Tensor, labels: Tensor, eps: float, steps: int, generator: Generator) -> Tensor:
    """Starts anywhere within eps, and takes steps along the sign of the gradient that end within eps again. Images in 0..1."""
    drawn = torch.rand(images.shape, generator=generator).to(images.device)
    lowest, highest = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
    found = (images + eps * (2 * drawn - 1)).clamp(lowest, highest)
    for _ in range(steps):
        found = (found + STRIDE * eps / steps * _gradient(model, found, labels).sign()).clamp(lowest, highest)
    return found


def _gradient(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def attack_report(
    answering: Answering, images: Split, attacks: Sequence[str], eps: Sequence[float], steps: int, seed: int
) -> dict[str, Any]:
    """Returns the accuracy under each attack and eps. An image that is answered wrongly as it is needs no attack and stays wrong."""
    generator, model = Generator().manual_seed(seed), OnPixels(answering)
    right = {(name, size): 0 for name in attacks for size in eps}
    loader = answering.loader(images)
    for batch, labels, *_ in shown(loader.epoch(), len(loader), "attacking"):
        at_once = max(MOST_PIXELS // batch[0, 0].numel(), 1)
        for part, part_labels in zip(model.pixels(batch).split(at_once), labels.split(at_once), strict=True):
            chosen = _is_right(model, part, part_labels)
            target = part[chosen], part_labels[chosen]
            for name, size in right if chosen.any() else ():
                changed = fgsm(model, *target, size) if name == "fgsm" else pgd(model, *target, size, steps, generator)
                right[name, size] += int(_is_right(model, changed, target[1]).sum())
    rows = {name: [{"eps": size, "accuracy": share(right[name, size], len(images))} for size in eps] for name in attacks}
    return {"attacks": {"by_name": rows, "steps": steps, "seed": seed}}


@torch.no_grad()
def _is_right(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    return model(images).argmax(1) == labels


class OnPixels:
    """A trained model as a function of pixels in 0..1."""

    def __init__(self, answering: Answering) -> None:
        known, device = answering.run.summary["data"], answering.fabric.device
        self.answering = answering
        self.mean, self.std = (torch.tensor(known[name], device=device)[:, None, None] for name in ("mean", "std"))

    def __call__(self, pixels: Tensor) -> Tensor:
        return self.answering.differentiable((pixels - self.mean) / self.std)

    def pixels(self, images: Tensor) -> Tensor:
        """Returns the pixels of normalised images."""
        return (images * self.std + self.mean).clamp(0, 1)
