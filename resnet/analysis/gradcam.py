"""Grad-CAM (Selvaraju et al. 2017): where in an image a network sees what speaks for a class.

A dozen lines, so no library is needed: captum's is the reference in the tests, and pytorch-grad-cam would bring OpenCV, 150 MB.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnet.config import UserError
from resnet.config.suggest import nearest
from resnet.models.facts import sections


def grad_cam(model: Callable[[Tensor], Tensor], section: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Returns maps (N, h, w) from 0, as large as the section's feature maps. `classes` (N,): the class to explain for each image."""
    with _maps_of(section) as seen, torch.enable_grad():
        scores = model(images).gather(1, classes[:, None]).sum()
        maps = seen[-1]
        weights = torch.autograd.grad(scores, maps)[0].mean((2, 3), keepdim=True)
    return (weights * maps).sum(1).relu().detach()


def find_section(network: nn.Module, model: Callable[[Tensor], Tensor], images: Tensor, name: str | None) -> tuple[str, nn.Module]:
    """Returns the named module, or the last section whose feature maps have more than one position. Raises UserError."""
    if name is not None:
        modules = dict(network.named_modules())
        if name not in modules:
            hint = nearest(name, [known for known in modules if known])
            raise UserError(f"section={name}: no such part of the network{hint}; it has {', '.join(sections(network))} and their parts")
        if not _has_maps(modules[name], model, images):
            raise UserError(f"section={name}: its output has no feature maps (N, C, H, W); name another part")
        return name, modules[name]
    for known, section in reversed(sections(network).items()):
        if _has_maps(section, model, images):
            return known, section
    raise UserError("no section of the network gives feature maps (N, C, H, W) of more than one position; name a part with section")


@torch.no_grad()
def _has_maps(section: nn.Module, model: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    with _maps_of(section) as seen:
        model(images[:1])
    return bool(seen) and seen[-1].ndim == 4 and seen[-1].shape[2] * seen[-1].shape[3] > 1


@contextmanager
def _maps_of(section: nn.Module) -> Iterator[list[Tensor]]:
    """Gives a list that gets the section's outputs. What follows works on copies, as it may change them in place."""
    seen = list[Tensor]()

    def keep(_: nn.Module, __: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor):
            return None
        seen.append(output)
        return output.clone()

    hook = section.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
