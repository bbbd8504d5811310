"""The networks. Knows nothing of the rest of the project."""

from resnet.models.resnet import ResNet

__all__ = ["ResNet"]
