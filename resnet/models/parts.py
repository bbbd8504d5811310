"""Finds the parts of a network by a built-in name, `module.Class`, or a mapping with a `_target_` and its settings."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from resnet.config.components import as_component
from resnet.config.targets import find_target


def find_part(key: str, value: Any, known: Mapping[str, str]) -> partial[Any]:
    """Returns a function that makes the part with its settings. Raises UserError if there is no such part."""
    settings = as_component(f"model.{key}", value, known)
    target = settings.pop("_target_")
    return partial(find_target(f"model.{key}={target}", target), **settings)
