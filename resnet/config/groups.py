"""Groups of parameters by name: which names a `match` covers, and the checks of `optimizer.groups`; imports no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from fnmatch import fnmatchcase
from typing import Any

from resnet.config.components import typed
from resnet.config.errors import UserError
from resnet.config.signature import Parameter, is_own, read_signature
from resnet.config.suggest import nearest

OWN = {  # keys of a group that are not settings of the optimizer's class
    "match": Parameter("match", str, MISSING),
    "frozen": Parameter("frozen", bool, False),
    "lr_scale": Parameter("lr_scale", float, 1.0, limits={"above": 0}),
}
LAYER_DECAY = Parameter("layer_decay", float | None, None, limits={"above": 0, "at_most": 1})


def is_in(name: str, match: str) -> bool:
    """True if `match` names this parameter, a module around it, or is a shell pattern of one of them."""
    return name == match or name.startswith(f"{match}.") or fnmatchcase(name, match) or fnmatchcase(name, f"{match}.*")


def check_groups(optimizer: Mapping[str, Any], import_foreign: bool = False) -> None:
    """Raises UserError: one line per mistake."""
    target, groups = optimizer["_target_"], optimizer.get("groups") or []
    if not isinstance(groups, list):
        raise UserError(f"optimizer.groups={groups}: a list is needed, as in [{{match: stem, frozen: true}}]")
    known: Mapping[str, Parameter] | None = None
    if import_foreign or is_own(target):
        signature = read_signature(target, f"optimizer._target_={target}")
        known = None if signature.takes_any else signature.settings(handed=1)
    wrong = [line for index, group in enumerate(groups) for line in _mistakes(f"optimizer.groups[{index}]", group, known)]
    if optimizer.get("layer_decay") is not None:
        wrong += _wrong("optimizer.layer_decay", optimizer["layer_decay"], LAYER_DECAY)
    if wrong:
        raise UserError("\n".join(wrong))


def _mistakes(key: str, group: Any, known: Mapping[str, Parameter] | None) -> Iterator[str]:
    if not isinstance(group, Mapping) or not isinstance(group.get("match"), str):
        yield f"{key}={group}: a group says which parameters it is of: {{match: stem, ...}}"
        return
    for name, value in group.items():
        if name in ("lr", "params"):
            yield f"{key}.{name}: lr is one for all parameters; lr_scale=0.1 makes it a tenth here"
        elif name in OWN:
            yield from _wrong(f"{key}.{name}", value, OWN[name])
        elif known is not None and name not in known:
            yield f"{key}.{name}: unknown key{nearest(name, (*OWN, *known))}; a group takes {', '.join((*OWN, *known))}"
        elif known is not None:
            yield from _wrong(f"{key}.{name}", value, known[name])


def _wrong(key: str, value: Any, parameter: Parameter) -> Iterator[str]:
    try:
        typed(key, value, parameter)
    except UserError as error:
        yield from str(error).splitlines()
