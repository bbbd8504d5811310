"""Where the jobs of a sweep lie: a job is known by its config, whatever grid it stands in."""

from typing import Any

from omegaconf import OmegaConf

from resnet.config import UserError, config_hash, load_config


def run_id(*, _root_: Any) -> str:
    """The folder of a job in its sweep, as a Hydra resolver; never raises, which would end the whole sweep."""
    values = OmegaConf.to_container(_root_, resolve=False)
    values.pop("hydra", None)  # type: ignore[union-attr, call-arg, arg-type]
    try:
        return config_hash(load_config(OmegaConf.create(values)))[:8]
    except UserError:
        return "invalid"
