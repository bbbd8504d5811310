"""The checkpoint that a run goes on from: its last good one, of the data that its config names."""

from resnet.config import UserError
from resnet.record.content import as_digest, short
from resnet.record.directory import LAST, PREVIOUS, RunDirectory
from resnet.training import checkpoint
from resnet.training.checkpoint import CheckpointError
from resnet.training.loop import State


def restore(directory: RunDirectory, status: str, digest: str | None) -> tuple[State | None, str]:
    """The state, and what is to be said about it; None where no checkpoint was written yet. `digest`: of the data now.

    Raises:
        UserError: there were checkpoints, and none of them is good.
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
    """Of a checkpoint that was copied here from another run. Older ones do not say what they were trained on."""
    before = as_digest(state.get("data_digest"))
    if before not in (None, now):
        raise CheckpointError(f"{directory / name}: of other data than this run's (digest {short(before)}, not {short(now)})")
