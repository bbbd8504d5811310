"""Config -> data set, augmentation and loaders."""

import json
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
from lightning_fabric import Fabric

from resnet.build_model import check_stages, is_foreign, trial
from resnet.config.errors import UserError
from resnet.config.hashing import changes_images
from resnet.config.schema import Config
from resnet.config.signature import read_signature
from resnet.data import Augment, DataError, DataSet, Loader, Size, Source, Split, checked, count_batches, plain_size, split_dataset
from resnet.make import make
from resnet.training.loop import Plan

OF_ALL_DATA = (
    "name",
    "workers",
    "shift",
    "flip",
    "val_size",
    "train_size",
    "balance",
    "only",
    "folds",
    "fold",
)  # keys of data that no source reads
EVAL_BATCH = 500  # images; does not affect the result


def build_data(config: Config) -> DataSet:
    """Reads the data, only once per process even if several jobs of a sweep use them."""
    settings = asdict(config.data)
    for key in ("name", "workers", "shift", "flip", "balance"):  # used by the tables, the loaders and the augmentation
        del settings[key]
    return _data(json.dumps(settings))


@lru_cache(maxsize=2)
def _data(settings: str) -> DataSet:
    """`settings` are JSON, because the cache needs a hashable argument."""
    given = json.loads(settings)
    source = given.pop("source")
    _check_parameters(source["_target_"])
    splitting = {key: given[key] for key in ("mean", "std", "val_size", "train_size", "split_seed", "only", "folds", "fold")}
    try:
        return split_dataset(_checked_source(source["_target_"], make("data", source, **given)), **splitting)
    except DataError as error:
        raise UserError(str(error)) from None
    except OSError as error:  # a file that the user's own source reads
        raise UserError(f"data._target_={source['_target_']}: {error.strerror or error}: {error.filename}") from None


def _check_parameters(target: str) -> None:
    """Raises UserError if a data source has parameters that would never get the values of these keys."""
    if taken := [name for name in read_signature(target, f"data._target_={target}").parameters if name in OF_ALL_DATA]:
        raise UserError(f"data._target_={target}: {', '.join(taken)}: keys that all data sets share; call its parameters something else")


def _checked_source(target: str, source: Any) -> Source:
    try:
        return checked(source)
    except DataError as error:
        raise UserError(f"data._target_={target}: {error}") from None


def check_size(config: Config, data: DataSet) -> Size:
    """Returns the size of the model's input. Raises UserError if the images do not fit the augmentation, or its output does not
    fit the model.
    """
    augment = build_augment(config)
    try:
        augment.check(data.channels, data.size)
    except DataError as error:
        raise UserError(str(error)) from None
    *smaller, size = augment.training_sizes(data.size)
    smallest = min([size, *smaller], key=min)
    check_stages(config, data, smallest, "size of augment's crop" if smallest == size else "sizes of progressive")
    if is_foreign(config):
        trial(config, data, smallest)
    return size


def check_held_out(config: Config, data: DataSet) -> None:
    """Raises UserError if training is to be judged by held-out images, and there are none."""
    if config.early_stop is not None and data.val is None:
        raise UserError(f"early_stop={config.early_stop}: there is no held-out split to judge by; set data.val_size, or early_stop=null")


def steps_per_epoch(config: Config, data: DataSet) -> int:
    number = count_batches(len(data.train), config.batch_size, config.limit_batches, is_training=True)
    if not number:
        raise UserError(f"data.train_size={config.data.train_size}: {len(data.train)} images to train on; at least two are needed")
    return number


def told_of_idle_augmentation(config: Config) -> list[str]:
    """Returns a note if the chosen augmentation does nothing, because the data set does not say how far images may be changed."""
    if changes_images(config.augment):
        return []
    return [f"augment changes no image, with data.shift={config.data.shift} and data.flip={config.data.flip:g}: set them, or augment=photo"]


def build_augment(config: Config) -> Augment:
    try:
        return Augment([make(f"augment.{index}", settings) for index, settings in enumerate(config.augment)])
    except DataError as error:
        raise UserError(str(error)) from None


def build_loaders(config: Config, data: DataSet, fabric: Fabric, plan: Plan) -> tuple[Loader, Loader | None, Loader]:
    augment, common = build_augment(config), _loader_settings(config, data, fabric)
    train = Loader(
        data.train,
        config.batch_size,
        augment,
        shuffle=True,
        balance=config.data.balance,
        seed=config.seed,
        total_batches=plan.total_steps,
        **common,
    )
    size = augment.output_size(data.size)
    val = build_eval_loader(config, data, data.val, fabric, size) if data.val is not None else None
    return train, val, build_eval_loader(config, data, data.test, fabric, size)


def build_eval_loader(config: Config, data: DataSet, split: Split, fabric: Fabric, size: Size) -> Loader:
    """`size`: of the model's input; images are cut or padded to it."""
    return Loader(split, EVAL_BATCH, shuffle=False, size=size, **_loader_settings(config, data, fabric))


def _loader_settings(config: Config, data: DataSet, fabric: Fabric) -> dict[str, Any]:
    return {
        "mean": data.mean,
        "std": data.std,
        "num_classes": len(data.classes),
        "limit": config.limit_batches,
        "workers": config.data.workers,
        "device": fabric.device,
        "channels_last": config.channels_last,
        "rank": fabric.global_rank,
        "world_size": fabric.world_size,
    }


def offered_by(data: DataSet) -> dict[str, Any]:
    """Returns facts about the data that components may take as arguments."""
    return {
        "in_channels": data.channels,
        "num_classes": len(data.classes),
        "class_names": data.classes,
        "class_counts": torch.bincount(torch.as_tensor(data.train.labels), minlength=len(data.classes)).tolist(),
        "image_size": plain_size(data.size),
        "mean": data.mean,
        "std": data.std,
    }
