"""Filters overrides for commands that users may paste: they keep a run's settings but hold nothing that a stranger's run could smuggle
in."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from resnet.config.hashing import TARGETS
from resnet.config.load import all_keys
from resnet.plain import CONTROL

ELSEWHERE = ("name", "wandb", "sweep", "hydra")  # say where a run goes, not what it is
PATHS = {"data.path", "data.root", "model.weights"}  # keys whose values are paths
GROUPS = {"model", "data", "augment", "optimizer", "scheduler", "fabric", "experiment"}
OPTION = re.compile(r"\w[\w-]*(/\w[\w-]*)*")  # an option of a group


def kept_overrides(overrides: Iterable[str], written_to: str | None, folder: Path | None) -> tuple[list[str], str]:
    """Returns the overrides of a saved run that are safe to paste, and the keys of those left out.

    Its paths are kept only if the run says that it was written to the folder where it is now. Otherwise they may be a stranger's.
    """
    is_at_home = written_to is not None and folder is not None and Path(written_to) == folder.resolve()
    texts = list(overrides)
    kept = [text for text in texts if is_harmless(text) and (is_at_home or _key(text) not in PATHS)]
    dropped = [text for text in texts if text not in kept and not _key(text).startswith(ELSEWHERE)]
    keys = dict.fromkeys(_key(text) if re.fullmatch(r"[\w.@/]{1,60}", _key(text)) else "one that is no key" for text in dropped)
    return kept, ", ".join(keys)


def is_harmless(override: str) -> bool:
    """True for KEY=VALUE or ~KEY of the schema, or an option of a group. False for anything that builds a class, reads the environment or
    sets where to write.
    """
    key, sign, value = _key(override), *override.partition("=")[1:]
    is_foreign = CONTROL.search(override) or "${" in value or "_target_" in override or key.split(".")[0] in ELSEWHERE
    if is_foreign or not (sign or override.startswith("~")):
        return False
    if key in GROUPS:
        return OPTION.fullmatch(value) is not None
    return key in _known_keys() or (key.split(".")[0] in TARGETS and re.fullmatch(r"\w+(\.\w+)+", key) is not None)


@cache
def _known_keys() -> frozenset[str]:
    return frozenset(all_keys())


def own_search_path(arguments: Sequence[str]) -> list[str] | None:
    """Returns the arguments of train.py that add folders of configs. Returns None if the primary config is not ours."""
    if any(text.startswith(("--config-path", "--config-name")) for text in arguments):
        return None
    return [text for text in arguments if text.startswith(("--config-dir", "hydra.searchpath="))]


def is_plain_name(name: str) -> bool:
    return re.fullmatch(r"\w[\w.@+ -]*", name) is not None


def without(overrides: Sequence[str], *keys: str) -> list[str]:
    return [text for text in overrides if _key(text) not in keys and not _key(text).startswith(ELSEWHERE)]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
