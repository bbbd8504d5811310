"""Turns sources into uint8 tensors and splits, and splits into batches. Knows nothing of the rest of the project."""

from resnet.data.checked import checked
from resnet.data.datasets import DataSet, split_dataset
from resnet.data.errors import DataError
from resnet.data.form import Form, Size, as_size, pixels, plain_size, size_text
from resnet.data.loaders import Batch, Loader, count_batches
from resnet.data.operation import PerImage
from resnet.data.pipeline import Augment
from resnet.data.sources import Source, Split
from resnet.data.to_evaluate import images_to_evaluate

__all__ = [
    "Augment",
    "Batch",
    "DataError",
    "DataSet",
    "Form",
    "Loader",
    "PerImage",
    "Size",
    "Source",
    "Split",
    "as_size",
    "checked",
    "count_batches",
    "images_to_evaluate",
    "pixels",
    "plain_size",
    "size_text",
    "split_dataset",
]
