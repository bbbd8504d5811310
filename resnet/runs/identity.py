"""Whether a config may start in a directory: it is free, holds the same run, or is refused with nothing touched."""

from typing import Any

from resnet.config import Config, UserError, config_hash, differing_keys, load_config
from resnet.runs.directory import FINISHED, RunDirectory


def finished_run(directory: RunDirectory, config: Config) -> dict[str, Any] | None:
    """The summary of a finished run with this config, or None where a new one may start.

    Raises:
        UserError: the directory holds something else.
    """
    path = directory.path
    if not directory.exists:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: it is there and holds no run; choose another name=..., or take it away")
        return None
    kept = load_config(directory.config)
    if config_hash(kept) != config_hash(config):
        differences = "; ".join(differing_keys(kept, config))
        raise UserError(f"{path}: it holds a run with another config ({differences}); choose another name=..., nothing was touched")
    summary = directory.summary
    if summary["status"] != FINISHED:
        raise UserError(f"{path}: it holds this very run, {summary['status']}; choose another name=..., or take it away")
    return summary
