"""The networks. Of the rest of the project they know the names of the config alone."""

from resnet.models.resnet import ResNet

__all__ = ["ResNet"]
