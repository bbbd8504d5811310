"""Finds the checkpoint to continue a run from: the last good one, from training on the same data."""

from resnet.config import UserError
from resnet.record.content import as_digest, short
from resnet.record.directory import LAST, PREVIOUS, RunDirectory
from resnet.training import checkpoint
from resnet.training.checkpoint import CheckpointError
from resnet.training.loop import State


def restore(directory: RunDirectory, status: str, digest: str | None) -> tuple[State | None, str]:
    """Returns the state and a note about it. The state is None if there is no checkpoint yet. `digest`: the digest of the current data.

    Raises:
        UserError: there were checkpoints, but none of them is good.
    """
    problems: list[str] = []
    for name in (LAST, PREVIOUS):
        try:
            state = checkpoint.load(directory / name)
            step = state["progress"]["step"]
            _check_same_data(directory, name, state, digest)
            directory.check_rows(state.get("rows"))
        except (CheckpointError, KeyError, TypeError, ValueError) as error:
            problems.append(str(error))
        else:
            return state, "; ".join([*problems, f"from step {step:,} ({name}), {status} before"])
    if any((directory / name).exists() for name in (LAST, PREVIOUS)):
        raise UserError(f"{'; '.join(problems)}: no good checkpoint is left; put a copy back, or start anew under another name=...")
    return None, f"from the start ({status} before its first checkpoint)"


def _check_same_data(directory: RunDirectory, name: str, state: State, now: str | None) -> None:
    """Raises CheckpointError if a checkpoint was copied here from a run on other data. Older checkpoints do not record their data."""
    before = as_digest(state.get("data_digest"))
    if before not in (None, now):
        raise CheckpointError(f"{directory / name}: of other data than this run's (digest {short(before)}, not {short(now)})")
