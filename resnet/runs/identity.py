"""Whether a config may start in a directory: it is free, holds the same run, or is refused with nothing touched."""

from dataclasses import dataclass
from typing import Any

from resnet.config import Config, UserError, config_hash, differing_keys, load_config
from resnet.runs.directory import FINISHED, RUNNING, RunDirectory, shortest
from resnet.runs.reading import Unreadable

LENGTH = {"epochs", "max_steps"}


@dataclass(frozen=True)
class Standing:
    """What a directory holds of a config's run."""

    summary: dict[str, Any] | None  # None: nothing yet
    extended: list[str]  # `epochs: 3 -> 5`, where the run shall go on for longer

    @property
    def is_finished(self) -> bool:
        return self.summary is not None and self.summary["status"] == FINISHED and not self.extended


def examine(directory: RunDirectory, config: Config, needs_length: bool, restart: str) -> Standing:
    """`needs_length`: the schedule was laid out for its length; `restart` is the command that starts anew from these weights.

    Raises:
        UserError: the directory holds something else, or is being written.
    """
    path = shortest(directory.path)
    if not directory.exists:
        if not directory.is_free:
            raise UserError(f"{path}: it is there and holds no run; choose another name=..., or take it away")
        return Standing(None, [])
    kept, summary = _read(directory, path)
    changes = differing_keys(kept, config) if config_hash(kept) != config_hash(config) else {}
    told = [f"{key}: {before} -> {now}" for key, (before, now) in changes.items()]
    is_longer = changes.keys() <= LENGTH and all(_raised(*change) for change in changes.values())
    if not is_longer:
        raise UserError(f"{path}: it holds a run with another config ({'; '.join(told)}); choose another name=..., nothing was touched")
    if changes and needs_length:
        raise UserError(
            f"{path}: {'; '.join(told)}: its schedule was laid out for the length that it has; a new run from its weights: {restart}"
        )
    if summary["status"] == RUNNING and directory.is_held_elsewhere:
        raise UserError(f"{path}: another process is training into it; wait for it, or choose another name=...")
    return Standing(summary, told)


def _read(directory: RunDirectory, path: str) -> tuple[Config, dict[str, Any]]:
    try:
        return load_config(directory.config), directory.summary
    except Unreadable as error:
        raise UserError(f"{error}; put a good copy back, or move {path} away and the run starts anew; nothing was touched") from None


def _raised(before: int | None, now: int | None) -> bool:
    return before is not None and (now is None or now > before)
