"""Sources become uint8 tensors and splits; loaders turn them into batches. Knows nothing of the rest of the project."""

from resnet.data.augment import Augment
from resnet.data.datasets import DataSet, load_dataset
from resnet.data.errors import DataError
from resnet.data.loaders import Batch, Loader

__all__ = ["Augment", "Batch", "DataError", "DataSet", "Loader", "load_dataset"]
