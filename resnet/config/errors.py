"""The ways in which a run can end badly, as exceptions whose text is all that the user needs to read."""


class UserError(Exception):
    """A mistake in what was asked: names the key, the value, what is allowed and what to do. Exit status 2."""


class RunBusy(UserError):
    """Of a run directory that another process writes. In a sweep no mistake of the job, which is told as what that process makes of it."""

    def __str__(self) -> str:
        return f"{self.args[0]}: another process is training into it; wait for it, or choose another name=..."


class RunFailed(Exception):
    """A run that started and could not be finished; its directory says why. Exit status 1."""


class RunInterrupted(Exception):
    """A signal ended a run, whose directory says so. Exit status 130 where it was Ctrl-C, else 75: try again."""

    def __init__(self, is_ctrl_c: bool) -> None:
        super().__init__()
        self.status = 130 if is_ctrl_c else 75
