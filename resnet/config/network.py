"""Finds settings of our networks that contradict each other. The settings may not have their types yet."""

from collections.abc import Iterator, Mapping
from typing import Any

from resnet.config.names import BLOCKS, NORMS, OUR_MODEL, SHORTCUTS, is_target

TORCHVISION = {
    **{"width": 64, "stage_widths": None, "shortcut": "projection_1x1", "stem": "conv7x7_pool", "activation": "relu", "norm": "batch"},
    **{"attention": "none", "anti_alias": "none", "weight_standardization": False, "residual_scale": None},
}


def is_ours(model: Any) -> bool:
    return isinstance(model, dict) and model.get("_target_") == OUR_MODEL


def is_torchvisions(model: Any) -> bool:
    """True if torchvision.models.resnet.ResNet makes the same network, whatever its depth, groups and width of bottlenecks."""
    if not is_ours(model) or len(model["layers"]) != 4 or any(model[key] != value for key, value in TORCHVISION.items()):
        return False
    return model["block"] == "basic" or (model["block"] == "bottleneck" and model["bottleneck_stride"] == "3x3")


def contradictions_of(model: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line per contradiction."""
    layers, widths = model.get("layers"), model.get("stage_widths")
    if isinstance(layers, list) and isinstance(widths, list) and len(layers) != len(widths):
        given = f"model.stage_widths={widths}".replace(" ", "")
        yield f"{given}: {len(widths)} widths for {len(layers)} stages (model.layers); give one for each stage, or null"
    if any(is_target(model.get("block"), name, BLOCKS) for name in ("basic", "preact_basic")):
        for key, usual in (("groups", 1), ("width_per_group", 64)):
            if model.get(key, usual) != usual:
                yield f"model.{key}={model[key]}: only bottlenecks have it; take model.block=bottleneck, or model.{key}={usual}"
    yield from _of_residuals(model)


def _of_residuals(model: Mapping[str, Any]) -> Iterator[str]:
    scale, depth = model.get("residual_scale"), model.get("stochastic_depth", 0)
    if is_target(model.get("shortcut"), "none", SHORTCUTS):
        for key, value, usual in (("stochastic_depth", depth, 0), ("residual_scale", scale, None)):
            if value != usual:
                yield f"model.{key}={value}: a plain network (model.shortcut=none) has no shortcut to fall back on; set one of the two"
    is_fixup, is_bare = model.get("init") == "fixup", is_target(model.get("norm"), "none", NORMS)
    if is_bare and model.get("weight_standardization") is True:
        yield "model.weight_standardization=true: weights of variance 1 need a normalisation behind them; set model.norm=group, or batch"
    if is_fixup and not is_bare:
        yield "model.init=fixup: it takes the place of normalisation; set model.norm=none, or model.init=he"
    if scale == 0:
        for key, value, is_set in (("init", "fixup", is_fixup), ("zero_init_residual", "true", model.get("zero_init_residual") is True)):
            if is_set:
                yield f"model.residual_scale=0 model.{key}={value}: two zeros in a row learn nothing; set one of the two"
