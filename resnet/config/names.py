"""The short names of built-in components and the targets that they stand for. This is the only such list; imports no torch."""

from collections.abc import Mapping
from typing import Any

OUR_LOSS = "resnet.losses.CrossEntropy"  # assumed for older configs, which name no loss
HUB = "hf:"  # begins the name of a repository of the Hugging Face Hub, in the place of a path
OUR_MODEL = "resnet.models.resnet.ResNet"
BLOCKS: Mapping[str, str] = {
    "basic": "resnet.models.blocks.Block",
    "bottleneck": "resnet.models.blocks.Bottleneck",
    "preact_basic": "resnet.models.blocks.PreactBlock",
    "preact_bottleneck": "resnet.models.blocks.PreactBottleneck",
}
SHORTCUTS: Mapping[str, str] = {
    "projection_1x1": "resnet.models.shortcuts.projection_1x1",
    "projection_3x3": "resnet.models.shortcuts.projection_3x3",
    "zero_pad": "resnet.models.shortcuts.ZeroPad",
    "pool_projection": "resnet.models.shortcuts.pool_projection",
    "projection_all": "resnet.models.shortcuts.projection_all",
    "none": "resnet.models.shortcuts.none",
}
STEMS: Mapping[str, str] = {
    "conv3x3": "resnet.models.stems.conv3x3",
    "conv7x7_pool": "resnet.models.stems.conv7x7_pool",
    "deep": "resnet.models.stems.deep",
    "bit": "resnet.models.stems.bit",
}
ATTENTIONS: Mapping[str, str] = {
    "none": "resnet.models.attention.none",
    "squeeze_excitation": "resnet.models.attention.SqueezeExcitation",
    "efficient_channel": "resnet.models.attention.EfficientChannelAttention",
}
ANTI_ALIASES: Mapping[str, str] = {
    "none": "resnet.models.pooling.no_anti_alias",
    "blur": "resnet.models.pooling.BlurPool",
}
NORMS: Mapping[str, str] = {
    "batch": "torch.nn.BatchNorm2d",
    "group": "resnet.models.layers.group_norm",
    "none": "resnet.models.layers.no_norm",
}
ACTIVATIONS: Mapping[str, str] = {
    "relu": "torch.nn.ReLU",
    "gelu": "torch.nn.GELU",
    "silu": "torch.nn.SiLU",
    "tanh": "torch.nn.Tanh",
    "sigmoid": "torch.nn.Sigmoid",
}
AUGMENTATIONS: Mapping[str, str] = {
    "affine": "resnet.data.augment.Affine",
    "crop": "resnet.data.augment.Crop",
    "random_resized_crop": "resnet.data.augment.RandomResizedCrop",
    "flip": "resnet.data.augment.Flip",
    "cutout": "resnet.data.augment.Cutout",
    "colour_jitter": "torchvision.transforms.v2.ColorJitter",
    "rand_augment": "torchvision.transforms.v2.RandAugment",
    "trivial_augment": "torchvision.transforms.v2.TrivialAugmentWide",
    "augmix": "torchvision.transforms.v2.AugMix",
    "random_erasing": "torchvision.transforms.v2.RandomErasing",
    "progressive": "resnet.data.augment.Progressive",
    "mixup": "resnet.data.augment.Mixup",
    "cutmix": "resnet.data.augment.CutMix",
}
METRICS: Mapping[str, str] = {
    "accuracy": "resnet.metrics.Accuracy",
    "balanced_accuracy": "resnet.metrics.BalancedAccuracy",
    "macro_f1": "resnet.metrics.MacroF1",
    "top5": "resnet.metrics.Top5",
    "calibration_error": "resnet.metrics.CalibrationError",
}
CALLBACKS: Mapping[str, str] = {
    "grad_norm": "resnet.training.probes.GradNorm",
    "activation_stats": "resnet.training.probes.ActivationStats",
    "update_ratio": "resnet.training.probes.UpdateRatio",
    "profile": "resnet.training.profile.Profile",
}
DATA_SETS: Mapping[str, str] = {  # older configs use these names in data.name
    "digits": "resnet.data.sources.digits",
    "mnist": "resnet.data.sources.mnist",
    "fashion_mnist": "resnet.data.sources.fashion_mnist",
    "cifar10": "resnet.data.sources.cifar10",
    "cifar100": "resnet.data.sources.cifar100",
    "arrays": "resnet.data.arrays.arrays",
    "folder": "resnet.data.folder.folder",
    "webdataset": "resnet.data.shards.webdataset",
    "parquet": "resnet.data.shards.parquet",
}
MOVED: Mapping[str, str] = {  # targets in older configs, and their current names
    "resnet.data.sources.arrays": "resnet.data.arrays.arrays",
    "resnet.data.sources.folder": "resnet.data.folder.folder",
    "resnet.training.muon.Muon": "resnet.training.optim.muon.Muon",
    "resnet.training.schedules.one_cycle": "resnet.training.optim.schedules.one_cycle",
    "resnet.training.schedules.cosine": "resnet.training.optim.schedules.cosine",
    "resnet.training.schedules.multistep": "resnet.training.optim.schedules.multistep",
}


def is_target(value: Any, name: str, known: Mapping[str, str]) -> bool:
    """True if a component, however it is written, is this built-in one."""
    return (value.get("_target_") if isinstance(value, dict) else value) in (name, known[name])
