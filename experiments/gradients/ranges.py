"""Where batch normalisation puts the values of a network at initialisation: `python -m experiments.gradients.ranges`."""

import torch
from torch import Tensor, nn

from resnet.data.sources import digits
from resnet.models.resnet import ResNet


def normalised(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What each of its batch normalisations returns in training, (C, values of a channel)."""
    found: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, inputs, output: found.append(output.transpose(0, 1).flatten(1)))
    with torch.no_grad():
        model(images)
    return found


def main() -> None:
    torch.manual_seed(0)
    images = digits(0).train.images
    assert isinstance(images, Tensor)  # not files
    layers = normalised(ResNet(1, 10, layers=[9, 9, 9], shortcut="zero_pad"), images.float() / 255)
    values = torch.cat([layer.flatten() for layer in layers])
    print(f"furthest mean of a channel from 0: {max(layer.mean(1).abs().max() for layer in layers):.2f}")
    print(f"furthest deviation of a channel from 1: {max((layer.std(1) - 1).abs().max() for layer in layers):.2f}")
    print(f"values outside [-1, 1]: {100 * (values.abs() > 1).float().mean():.0f} %")
    print(f"largest value: {values.abs().max():.1f}")


if __name__ == "__main__":
    main()
