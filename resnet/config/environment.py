"""Reads W&B's environment variables. A key on the command line wins, then the environment, then conf/; an empty variable counts as
unset."""

import os
from collections.abc import Iterable
from typing import Any

from resnet.config.errors import UserError
from resnet.config.schema import WANDB_MODES
from resnet.config.suggest import nearest

VARIABLES = {
    "WANDB_PROJECT": "project",
    "WANDB_ENTITY": "entity",
    "WANDB_RUN_GROUP": "group",
    "WANDB_NAME": "name",
    "WANDB_TAGS": "tags",  # separated by commas
    "WANDB_NOTES": "notes",
    "WANDB_JOB_TYPE": "job_type",
    "WANDB_DIR": "dir",
}
MODES = {**{mode: mode for mode in WANDB_MODES}, "dryrun": "offline", "run": "online"}  # W&B's older words too
TRUE, FALSE = ("true", "1", "yes", "on", "t", "y"), ("false", "0", "no", "off", "f", "n")


def wandb_settings(given: Iterable[str]) -> dict[str, Any]:
    """Returns the keys of conf/wandb that the environment sets. Keys in `given`, the overrides of the command line, take precedence.

    Raises:
        UserError: a variable has a value that means nothing.
    """
    keys = {text.lstrip("+~").partition("=")[0] for text in given}
    found = {key: os.environ[name] for name, key in VARIABLES.items() if os.environ.get(name, "").strip()}
    settings: dict[str, Any] = {key: value for key, value in found.items() if f"wandb.{key}" not in keys}
    if "tags" in settings:
        settings["tags"] = [tag.strip() for tag in settings["tags"].split(",") if tag.strip()]
    if "wandb.mode" not in keys and "wandb" not in keys and (mode := _mode()):
        settings["mode"] = mode
    return settings


def _mode() -> str | None:
    disabled, mode = (os.environ.get(name, "").strip() for name in ("WANDB_DISABLED", "WANDB_MODE"))
    if disabled and disabled.lower() not in TRUE + FALSE:
        raise UserError(f"WANDB_DISABLED={disabled}: true or false is needed; unset it, or give wandb.mode=... on the command line")
    if disabled.lower() in TRUE:
        return "disabled"
    if mode and mode.lower() not in MODES:
        raise UserError(
            f"WANDB_MODE={mode}: no such mode{nearest(mode, WANDB_MODES)}; "
            f"set it to {', '.join(WANDB_MODES)}, unset it, or give wandb.mode=... on the command line"
        )
    return MODES.get(mode.lower())
