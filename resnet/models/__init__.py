"""The networks. From the rest of the project they use only resnet/config."""

from resnet.models.resnet import ResNet

__all__ = ["ResNet"]
