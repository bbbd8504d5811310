"""Translates configs of older versions to the current keys. Every reader of a saved config uses it."""

from collections.abc import Iterator, Mapping
from typing import Any

from resnet.config.names import AUGMENTATIONS, CALLBACKS, DATA_SETS, MOVED, OUR_LOSS, OUR_MODEL

# Older keys of `augment`, grouped by the operation that they set, in the order in which the operations ran.
OPERATIONS: Mapping[str, Mapping[str, str]] = {
    "affine": {"rotate": "rotate", "scale": "scale"},
    "crop": {"pad": "pad", "crop": "size", "padding_mode": "mode"},
    "flip": {"flip": "p"},
    "cutout": {"cutout": "side"},
    "progressive": {"progressive": "sizes"},
    "mixup": {"mixup": "alpha"},
    "cutmix": {"cutmix": "alpha"},
}


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with current keys. A current config stays as it is."""
    values = _without_in_memory(_with_a_source(_with_operations(_with_moved_targets(dict(values)))))
    return _with_a_choice(_with_a_loss(_with_callbacks(_with_a_model(values))))


def _with_operations(values: dict[str, Any]) -> dict[str, Any]:
    """Turns `augment` into a list of its active operations. Leaves unknown keys, which are reported later."""
    given = values.get("augment")
    known = {key for keys in OPERATIONS.values() for key in keys}
    if not isinstance(given, Mapping) or not set(given) <= known:
        return values
    return {**values, "augment": list(_operations(given))}


def _operations(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, keys in OPERATIONS.items():
        settings = {new: given[old] for old, new in keys.items() if given.get(old)}
        if set(settings) - {"mode"}:
            yield {"_target_": AUGMENTATIONS[name], **settings}


def _with_a_source(values: dict[str, Any]) -> dict[str, Any]:
    """Older configs chose the data by `data.name`."""
    data = values.get("data")
    if not isinstance(data, Mapping) or {"_target_", "source"} & set(data) or data.get("name") not in DATA_SETS:
        return values
    return {**values, "data": {"_target_": DATA_SETS[data["name"]], **data}}


def _without_in_memory(values: dict[str, Any]) -> dict[str, Any]:
    """Older configs chose where decoded images are; it changed no result."""
    data = values.get("data")
    if not isinstance(data, Mapping) or "in_memory" not in data:
        return values
    return {**values, "data": {name: value for name, value in data.items() if name != "in_memory"}}


def _with_a_model(values: dict[str, Any]) -> dict[str, Any]:
    """Older configs name no model, because there was only one."""
    model = values.get("model")
    if isinstance(model, Mapping) and model and "_target_" not in model:
        return {**values, "model": {"_target_": OUR_MODEL, **model}}
    return values


def _with_a_loss(values: dict[str, Any]) -> dict[str, Any]:
    """Older configs have the key `label_smoothing`, because there was only one loss."""
    if "label_smoothing" not in values or "loss" in values:
        return values
    smoothing = values.pop("label_smoothing")
    return {**values, "loss": {"_target_": OUR_LOSS, "smoothing": smoothing}}


def _with_a_choice(values: dict[str, Any]) -> dict[str, Any]:
    """Drops `sweep.objective`. Older runs kept the checkpoint with the best accuracy, which is still the default of `choose_by`."""
    sweep = values.get("sweep")
    if not isinstance(sweep, Mapping) or "objective" not in sweep or "choose_by" in values:
        return values
    return {**values, "sweep": {name: value for name, value in sweep.items() if name != "objective"}}


def _with_callbacks(values: dict[str, Any]) -> dict[str, Any]:
    """Older configs have the keys `probes`, `probe_every` and `profile`."""
    probes, every, profile = values.pop("probes", []), values.pop("probe_every", 100), values.pop("profile", False)
    known = [name for name in probes if name in CALLBACKS] if isinstance(probes, list) else []
    old = {name: {"_target_": CALLBACKS[name], "every": every} for name in known}
    old |= {"profile": {"_target_": CALLBACKS["profile"]}} if profile else {}
    return {**values, "callbacks": {**old, **(values.get("callbacks") or {})}} if old else values


def _with_moved_targets(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _with_moved_targets(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_moved_targets(item) for item in value]
    return MOVED.get(value, value) if key == "_target_" and isinstance(value, str) else value
