"""Parameter groups by name: frozen parts, parts with settings of their own, and learning rates that decay with depth."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from resnet.config.errors import UserError
from resnet.config.groups import OWN, is_in
from resnet.config.suggest import nearest
from resnet.models.facts import path_of

Group = Mapping[str, Any]


def parameter_groups(
    model: nn.Module, decay_norm_and_bias: bool, groups: Sequence[Group] = (), layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Returns the parameter groups for an optimizer. Frozen parameters stop requiring gradients and are in no group.

    Biases and normalisation parameters get separate groups without weight decay, unless `decay_norm_and_bias`. A group whose learning rate
    differs from the common one has the factor `lr_scale`.

    Raises:
        UserError: a group has no parameters, or none are left to train.
    """
    chosen, factors = _chosen(model, groups), depth_factors(model, layer_decay)
    made: dict[Any, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        group = groups[chosen[name]] if name in chosen else {}
        if group.get("frozen"):
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        is_spared = parameter.ndim <= 1 and not decay_norm_and_bias
        factor = factors[name] * group.get("lr_scale", 1.0)
        settings = {key: value for key, value in group.items() if key not in OWN}
        settings |= {"weight_decay": 0.0} if is_spared else {}
        settings |= {"lr_scale": factor} if factor != 1 else {}
        made.setdefault((chosen.get(name), is_spared, factor), {"params": [], **settings})["params"].append(parameter)
    if not made:
        raise UserError("optimizer.groups: all parameters are frozen, or the model has none; leave some to train")
    return list(made.values())


def frozen_parts(model: nn.Module, groups: Sequence[Group]) -> list[nn.Module]:
    """Returns the outermost modules whose parameters are all frozen by groups."""
    frozen = {name for name, index in _chosen(model, groups).items() if groups[index].get("frozen")}
    names = [name for name, _ in model.named_parameters()] if frozen else []
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        own = {name for name in names if name.startswith(f"{path}." if path else "")}
        if own and own <= frozen and not any(path.startswith(f"{outer}.") for outer in found):
            found[path] = module
    return list(found.values())


def depth_factors(model: nn.Module, layer_decay: float | None) -> dict[str, float]:
    """Returns a factor per parameter: 1 in the last unit of the model, times `layer_decay` for each unit before it (Clark et al. 2020)."""
    names = [name for name, _ in model.named_parameters()]
    if layer_decay is None:
        return dict.fromkeys(names, 1.0)
    factors = dict.fromkeys(names, 1.0)
    units = list(_units(model, ""))
    for depth, unit in enumerate(units):
        for name in names:
            if any(is_in(name, path) for path in unit):
                factors[name] = layer_decay ** (len(units) - 1 - depth)
    outside = set(names) - {name for unit in units for path in unit for name in names if is_in(name, path)}
    return factors | dict.fromkeys(outside, layer_decay ** max(len(units) - 1, 0))  # the same factor as the first unit


def _units(model: nn.Module, path: str) -> Iterator[list[str]]:
    """Yields the paths of stem, blocks and head in order. A separate normalisation belongs to the unit before it."""
    unit: list[str] = []
    for name, child in model.named_children():
        inner = f"{path}{name}"
        if not any(True for _ in child.parameters()):
            continue
        if unit and all(parameter.ndim <= 1 for parameter in child.parameters()):
            unit.append(inner)
            continue
        if unit:
            yield unit
        unit = [] if _holds_blocks(child) else [inner]
        if not unit:
            yield from _units(child, f"{inner}.")
    if unit:
        yield unit


def _holds_blocks(module: nn.Module) -> bool:
    """True for a sequence of modules that all have submodules."""
    return isinstance(module, nn.Sequential | nn.ModuleList) and all(
        any(True for _ in child.children()) for child in module if any(True for _ in child.parameters())
    )


def _chosen(model: nn.Module, groups: Sequence[Group]) -> dict[str, int]:
    """Maps each parameter to the first group that matches it."""
    names = [name for name, _ in model.named_parameters()]
    chosen: dict[str, int] = {}
    for index, group in enumerate(groups):
        path = path_of(group["match"], model)
        found = [name for name in names if is_in(name, path)]
        new = [name for name in found if name not in chosen]
        if not new:
            paths = [path for path, module in model.named_modules() if path and any(True for _ in module.parameters())]
            has = f"the model has {', '.join(path for path in paths if '.' not in path)}"
            reason = "groups before it have all its parameters" if found else f"it matches nothing{nearest(group['match'], paths)}; {has}"
            raise UserError(f"optimizer.groups[{index}].match={group['match']}: {reason}")
        chosen |= dict.fromkeys(new, index)
    return chosen
