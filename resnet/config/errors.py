"""The ways in which a run can end badly, as exceptions whose message is all that the user needs to read."""

import sys
import traceback
from pathlib import Path

NOT_THE_USERS = (str(Path(__file__).parents[1]), sys.base_prefix, sys.prefix)  # folders of code in which a user's mistake is not looked for


class UserError(Exception):
    """A mistake in the user's request. The message names the key, the value, what is allowed and what to do. Exit status 2."""


class RunBusy(UserError):
    """Another process is training into the run directory. In a sweep this is no mistake of the job: its result is what the other process
    makes of it.
    """

    def __str__(self) -> str:
        return f"{self.args[0]}: another process is training into it; wait for it, or choose another name=..."


class RunFailed(Exception):
    """A run started but could not finish; its directory says why. Exit status 1."""


class RunInterrupted(Exception):
    """A signal ended a run; the run's directory records it. Exit status 130 for Ctrl-C, else 75 (try again)."""

    def __init__(self, is_ctrl_c: bool) -> None:
        super().__init__()
        self.status = 130 if is_ctrl_c else 75


def cause(error: BaseException) -> str:
    """Returns an error of foreign code in one line, with the line of the user's own file that it comes from, if there is one."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    elif not isinstance(error, TypeError | ValueError | RuntimeError) or not text:
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_the_users(frame.filename)]
    return f"{text}, {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else text


def _is_the_users(file: str) -> bool:
    return not file.startswith(("<", *NOT_THE_USERS)) and "site-packages" not in file
