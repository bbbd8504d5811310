"""The features of a trained model: the input of its last linear layer, for images of its data set or others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from resnet.analysis.answering import Answering
from resnet.config import UserError
from resnet.data import Split
from resnet.data.progress import shown


class Seen(NamedTuple):
    features: Tensor  # (N, D)
    logits: Tensor  # (N, K)


@torch.no_grad()
def features(answering: Answering, images: Split, title: str) -> Seen:
    """Returns features and logits. `title`: what the progress is called. Raises UserError for a model without a last linear layer."""
    layer = last_linear(answering.network, len(answering.run.classes))
    loader = answering.loader(images)
    found, logits = list[Tensor](), list[Tensor]()
    with inputs_of(layer) as seen:
        for batch, *_ in shown(loader.epoch(), len(loader), title):
            logits.append(answering.differentiable(batch).cpu())
            found.append(seen[-1].flatten(1).float().cpu())
            seen.clear()
    return Seen(torch.cat(found), torch.cat(logits))


def last_linear(network: nn.Module, num_classes: int) -> nn.Module:
    layers = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features == num_classes]
    if not layers:
        raise UserError(f"model: {type(network).__name__} has no linear layer with {num_classes} scores, whose input would be its features")
    return layers[-1]


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Gives a list that gets the input of each call."""
    seen = list[Tensor]()

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    hook = module.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
