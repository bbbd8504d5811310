"""Gradients of small networks of every kind in channels_last, as training has them, against float64: `python gradients.py THREADS...`

Prints each network before it is computed, so that the last line names the one that the process died of, and WRONG for a wrong gradient.
"""

import copy
import itertools
import sys
from typing import Any

import torch
import torch.nn.functional as F
from rounding import tolerance
from torch import Tensor, nn

from resnet.config.names import BLOCKS, SHORTCUTS
from resnet.models import ResNet

# Channels, normalisation (without it the convolutions have biases) and pixels a side: even ones and odd ones take other ways below.
STEMS = ((1, "batch", 8), (3, "none", 8), (3, "group", 7))
WIDTHS = (1, 2, 3, 4, 6, 8, 16)
# The rest of the family, with the blocks that it is for.
BOTTLENECKS = [block for block in BLOCKS if "bottleneck" in block]
VARIANTS = (
    ({"groups": 4, "width_per_group": 64}, BOTTLENECKS),
    ({"groups": 8, "width_per_group": 32, "bottleneck_stride": "3x3"}, BOTTLENECKS),
    ({"bottleneck_stride": "3x3", "weight_standardization": True}, BOTTLENECKS),
    ({"weight_standardization": True}, BLOCKS),
    ({"anti_alias": "blur", "attention": "efficient_channel"}, BLOCKS),
    ({"anti_alias": "blur", "bottleneck_stride": "3x3", "groups": 2}, BOTTLENECKS),
    ({"residual_scale": 0.5, "attention": "squeeze_excitation"}, BLOCKS),
)
IMAGES = 16


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    return [parameter.grad.double() for parameter in model.parameters()]


def check(threads: list[int], block: str, shortcut: str, stem: tuple[int, str, int], width: int, **settings: Any) -> None:
    """Without ReLU, which a rounding could turn on or off. A gradient that is wrong is off by about its own norm."""
    in_channels, norm, pixels = stem
    torch.manual_seed(0)
    style = {"block": block, "shortcut": shortcut, "norm": norm, "activation": "silu", **settings}
    model = ResNet(in_channels, 10, layers=[1, 1], width=width, **style)
    for name, bias in model.named_parameters():
        if "attention" in name and bias.ndim == 1:
            nn.init.constant_(bias, 0.5)  # its ReLU would stand at its kink: the mean of a normalised channel is zero
    images, labels = torch.randn(IMAGES, in_channels, pixels, pixels), torch.arange(IMAGES) % 10
    exact = gradients(copy.deepcopy(model).double(), images.double(), labels)
    allowed = tolerance(model, summed=IMAGES * pixels**2) * torch.cat([gradient.flatten() for gradient in exact]).norm()
    model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    for number in threads:
        torch.set_num_threads(number)
        for (name, _), ours, theirs in zip(model.named_parameters(), gradients(model, images, labels), exact, strict=True):
            if not (error := (ours - theirs).norm()) <= allowed:
                print(f"WRONG with {number} threads: {name} is off by {error:.1e}, its norm {theirs.norm():.1e}, allowed {allowed:.1e}")


if __name__ == "__main__":
    for kind in itertools.product(BLOCKS, SHORTCUTS, STEMS, WIDTHS):
        print(*kind, flush=True)
        check([*map(int, sys.argv[1:])], *kind)
    for settings, blocks in VARIANTS:
        stems = [stem for stem in STEMS if "weight_standardization" not in settings or stem[1] != "none"]
        for kind in itertools.product(blocks, ("pool_projection",), stems, (2, 3, 8)):
            print(settings, *kind, flush=True)
            check([*map(int, sys.argv[1:])], *kind, **settings)
    print("all computed")
