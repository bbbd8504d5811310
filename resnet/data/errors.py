"""The error for wrong data."""

from resnet.plain import plain


class DataError(Exception):
    """The data cannot be used. The message is one line: the file or key, what is wrong with it, and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(plain(text))  # file names may hold any characters
