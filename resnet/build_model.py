"""Config -> model: ours, or any module that maps the images of the data to a score per class."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from resnet.config.components import COMPONENTS, targets_in
from resnet.config.errors import UserError, cause
from resnet.config.names import OUR_MODEL, STEMS
from resnet.config.schema import Config
from resnet.config.signature import Signature, is_own, read_signature
from resnet.data import DataSet, Size, pixels, plain_size
from resnet.make import make
from resnet.models.facts import receptive_fields
from resnet.training.randomness import random_numbers_kept

CHANNELS = ("in_channels", "in_chans")
WHOLE_STEM = "model.stem=conv3x3, which leaves small images whole, or model=resnet20, which is made for them"
MOST_LOST = 2  # pixels per side of the last feature maps


def build_model(config: Config, in_channels: int, num_classes: int, size: Size | None = None) -> nn.Module:
    """Raises UserError if the model cannot be made."""
    target = config.model["_target_"]
    signature = read_signature(target, f"model._target_={target}")
    by_name = {**dict.fromkeys(CHANNELS, in_channels), "num_classes": num_classes, "image_size": size and plain_size(size)}
    if COMPONENTS["model"].is_by_name(signature):
        made = _made({**_unnamed(signature, in_channels, num_classes), **config.model}, by_name)
    else:
        made = make("model", config.model, in_channels, num_classes, image_size=by_name["image_size"])
    if not isinstance(made, nn.Module):
        raise UserError(f"model._target_={target}: it gives a {type(made).__name__}; a torch.nn.Module is needed")
    if any(isinstance(parameter, UninitializedParameter) for parameter in made.parameters()):
        raise UserError(f"model._target_={target}: it has lazy layers, whose sizes are not known before their first images; give the sizes")
    return made


def _unnamed(signature: Signature, in_channels: int, num_classes: int) -> dict[str, int]:
    """Returns arguments that a target takes without naming them, as timm.create_model does. A network without a parameter for channels
    expects three.
    """
    if not signature.takes_any:
        return {}
    unnamed = {"num_classes": num_classes} if "num_classes" not in signature.parameters else {}
    names_channels = any(name in signature.parameters for name in CHANNELS)
    return unnamed if names_channels or in_channels == 3 else {**unnamed, "in_chans": in_channels}


def _made(settings: dict[str, Any], by_name: dict[str, Any]) -> Any:
    try:
        return make("model", settings, **by_name)
    except UserError as error:
        if "unexpected keyword argument 'in_chans'" not in str(error):
            raise
        raise UserError(
            f"model._target_={settings['_target_']}: it is made for images of 3 channels, and has no in_channels or in_chans; "
            f"the data have {by_name['in_channels']}: take data of 3 channels, or another model"
        ) from None


def is_foreign(config: Config) -> bool:
    """True if the model uses code from outside this package and torch."""
    return any(not is_own(target) for _, target in targets_in(config.model, "model"))


def meta_model(config: Config, in_channels: int, num_classes: int, size: Size | None = None) -> nn.Module:
    """Returns a model without memory for its weights."""
    with torch.device("meta"):
        return build_model(config, in_channels, num_classes, size).eval()


def trial(config: Config, data: DataSet, size: Size) -> tuple[nn.Module, Tensor]:
    """Returns the model and two images that it accepts. They are on the meta device, which needs no memory, or else on the CPU.

    Raises:
        UserError: the model is foreign and does not accept the images.
    """
    shape = (2, data.channels, *size)
    if not is_foreign(config):
        return meta_model(config, data.channels, len(data.classes), size), torch.empty(shape, device="meta")
    with random_numbers_kept():
        try:
            return _tried(config, data, torch.empty(shape, device="meta"))
        except Exception:  # the code may need actual values
            return _tried(config, data, torch.zeros(shape))


def _tried(config: Config, data: DataSet, images: Tensor) -> tuple[nn.Module, Tensor]:
    with torch.device(images.device):
        model = build_model(config, data.channels, len(data.classes), (images.shape[-2], images.shape[-1]))
    _try_images(config, data, model.eval(), images)
    _try_images(config, data, model.train(), images)
    return model.eval(), images


def _try_images(config: Config, data: DataSet, model: nn.Module, images: Tensor) -> None:
    mode = " in training" if model.training else ""
    given = f"model._target_={config.model['_target_']}: images of {'x'.join(map(str, images.shape[1:]))}"
    try:
        with torch.set_grad_enabled(model.training):
            scores = model(images)
    except Exception as error:  # foreign code may raise anything
        raise UserError(f"{given} do not pass through it{mode} ({cause(error)}){_other_channels(model, data)}") from None
    wanted = (len(images), len(data.classes))
    if not isinstance(scores, Tensor) or scores.shape != wanted:
        found = f"a tensor of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise UserError(
            f"{given}, {len(images)} of them, give {found}{mode}; one score for each class is needed, a tensor of shape {wanted}"
        )
    if model.training and not scores.requires_grad and any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"{given}: its scores in training have no gradient; compute them with floating-point parameters, without no_grad")


def _other_channels(model: nn.Module, data: DataSet) -> str:
    taken = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), data.channels)
    if taken == data.channels:
        return ""
    return f"; its first convolution takes {taken} channels, and the data have {data.channels}: take other data, or another model"


def check_stages(config: Config, data: DataSet, size: Size, key: str) -> None:
    """Raises UserError if the images are too small for all stages of our networks to halve. `key`: the setting that the images' size comes
    from.
    """
    if config.model["_target_"] != OUR_MODEL:
        return
    stages, layers = len(config.model["layers"]), str(config.model["layers"]).replace(" ", "")
    left, where, instead = min(size), "", ""
    if config.model["stem"] != "conv3x3":
        model, images = trial(config, data, size)
        left = min(model.stem(images).shape[-2:])  # type: ignore[operator]
        where, instead = (f", {left} behind the stem,", f"{WHOLE_STEM}, ") if left < min(size) else ("", "")
    if left < 2 ** (stages - 1):
        raise UserError(
            f"model.layers={layers}: images of {pixels(size)}{where} are too small for {stages} stages, each of which "
            f"halves them; take {instead}at most {left.bit_length()} stages, or larger images ({key})"
        )


def told_of_small_images(config: Config, model: nn.Module, images: Tensor) -> list[str]:
    """Returns a note if one of our networks that is made for photos gets images of which it leaves next to nothing."""
    stem = config.model.get("stem")
    if config.model["_target_"] != OUR_MODEL or stem not in STEMS or stem == "conv3x3":
        return []
    first, *_, last = (min(maps.shape[-2:]) for maps in model.features(images))  # type: ignore[operator]
    if last > MOST_LOST:
        return []
    left = f"images of {pixels((images.shape[-2], images.shape[-1]))} are {first} behind the stem and {last} at the end"
    return [f"{left}: model.stem={stem} is made for about 224; take {WHOLE_STEM}"]


def told_of_narrow_field(config: Config, model: nn.Module, images: Tensor) -> list[str]:
    """Returns a note if no output of the last stage of one of our networks sees the whole image."""
    if config.model["_target_"] != OUR_MODEL:
        return []
    *_, seen, _ = receptive_fields(model)
    side = max(images.shape[-2:])
    if seen is None or seen >= side:
        return []
    return [
        f"the last stage sees {seen:.0f} of {side} pixels: take a network for larger images, like model=resnet18, or more stages, or "
        "smaller images"
    ]
