"""Names settings in tables: the keys in which configs differ, shortened, and their values as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnet.analysis.runs import MISSING
from resnet.config.hashing import NOT_IN_IDENTITY

IGNORED = {*NOT_IN_IDENTITY, "seed", "data.fold"}  # keys that do not make a different group


def is_ignored(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in IGNORED)


def differing(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns, for each flat config, the keys that not all share, shortened: `optimizer=adam` stands for the class and the settings that
    follow from it.
    """
    varied = varying(configs)
    groups = {key.removesuffix("._target_") for key in varied if key.endswith("._target_")}
    shown = [key for key in varied if key != "optimizer.lr" and not _comes_with_class(key, groups, configs)]  # optimizer.lr repeats lr
    return [{_short(key): _class(config, key) for key in shown} for config in configs]


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if not is_ignored(key)]
    return [key for key in keys if len({repr(config.get(key, MISSING)) for config in configs}) > 1]


def _comes_with_class(key: str, groups: set[str], configs: Sequence[Mapping[str, Any]]) -> bool:
    """True if a setting follows from its group's class: adam's betas add nothing to optimizer=adam."""
    group, _, name = key.rpartition(".")
    if group not in groups or name == "_target_":
        return False
    pairs = {(config.get(f"{group}._target_"), repr(config.get(key, MISSING))) for config in configs}
    return len(pairs) == len({target for target, _ in pairs})


def _short(key: str) -> str:
    return key.removesuffix("._target_")


def _class(config: Mapping[str, Any], key: str) -> Any:
    value = config.get(key, MISSING)
    return str(value).rsplit(".", 1)[-1].lower() if key.endswith("._target_") else value


def text_of(value: Any) -> str:
    """Returns a value as tables show it. Numbers have six significant digits, because a search proposes some with 17."""
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    return "null" if value is None else str(value).replace(" ", "") if isinstance(value, list) else str(value)
