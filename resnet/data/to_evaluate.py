"""The user's own images for a trained model."""

import os
from pathlib import Path

import torch
from torch import Tensor

from resnet.data.arrays import open_arrays
from resnet.data.as_trained import as_trained
from resnet.data.errors import DataError
from resnet.data.files import folders_in, list_images
from resnet.data.form import Form
from resnet.data.pictures import as_image
from resnet.data.sources import Split


def images_to_evaluate(path: Path, classes: list[str], form: Form, pictures: str) -> Split:
    """The user's own images for a trained model: x_test and y_test of an .npz file, or one folder per class, named as in training."""
    if os.path.isdir(path):
        folder = path / "test" if (path / "test").is_dir() else path
        there = folders_in(folder)
        here = [name for name in classes if name in there]  # a stranger's class may be called ../elsewhere
        if not here:
            raise DataError(f"{folder}: it has none of the model's classes as folders; they are {', '.join(classes)}")
        paths, labels = list_images(folder, here)
        images = torch.stack([as_trained(file, form, pictures) for file in paths])
        return Split(images, torch.tensor([classes.index(here[label]) for label in labels]))
    split = open_arrays(path, f"--images {path}", ("test",))[0]
    if split.images.shape[1] != form.channels:
        raise DataError(f"{path}: x_test has images of {split.images.shape[1]} channels; the model takes {form.channels}")
    if int(split.labels.max()) >= len(classes):
        raise DataError(f"{path}: y_test has label {int(split.labels.max())}; the model knows {len(classes)} classes")
    assert isinstance(split.images, Tensor)
    return Split(torch.stack([as_trained(as_image(image), form, pictures) for image in split.images]), split.labels)
