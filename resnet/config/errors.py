"""The ways in which a run can end badly, as exceptions whose message is all that the user needs to read."""


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
